package allocator

// SKU names the thing that is sold: 1 to MaxSKULen bytes of [A-Za-z0-9._:-].
type SKU string

// Quantity counts units.
type Quantity int64

// ShardID numbers the shards of a cluster from zero.
type ShardID uint16

// Millis is a moment or a span in milliseconds. Moments count from the Unix
// epoch in log time: the time the shard's leader stamps on each batch.
type Millis int64

// Key is a 128-bit keyed hash of an idempotency key within its scope (the
// buyer when there is one). The hash stands for the key itself: it is keyed
// with the cluster's secret, so nobody outside can make two keys collide.
// The zero Key means "none".
type Key [16]byte

// Buyer is a 128-bit keyed hash of a buyer id. The zero Buyer means "none".
type Buyer [16]byte

// Fingerprint is a 64-bit hash of a request's body; it tells a repeated
// request from another request under the same key.
type Fingerprint uint64

// Limits of the state machine. Each bounds memory that one command may take,
// and keeps sums far away from the ends of an int64.
const (
	MaxSKULen       = 64                            // fits a fixed-size record
	MaxLines        = 32                            // lines of one cart
	MaxQuantity     = 1_000_000_000                 // units in one line, deposit or adjustment
	MaxOnHand       = 1_000_000_000_000             // units of one SKU: 1,000 deposits of the largest size
	MaxBuyerLen     = 128                           // bytes of a buyer id
	MaxReferenceLen = 255                           // bytes of a reference; its length is stored in one byte
	MaxMetadataLen  = 4096                          // bytes of a SKU's metadata, canonical JSON
	MaxTTL          = Millis(30 * 24 * 3600 * 1000) // the longest hold; fits 32 bits of milliseconds
	MaxMessages     = 512                           // messages in one TransferIn
	MaxShards       = 1024                          // shards of a cluster
	MaxCommandLen   = 256 * 1024                    // bytes of one encoded command
)

// maxMoment is the last moment of log time that can be: the year 37,648. It
// keeps every sum of a moment and a span within an int64.
const maxMoment = Millis(1) << 50

// DefaultTTL is how long a reservation holds when neither the request nor the
// SKU says otherwise.
const DefaultTTL = Millis(600 * 1000)

// DefaultRetention is how long a finished reservation answers for its key.
const DefaultRetention = Millis(15 * 60 * 1000)

// ValidSKU tells whether s is a well-formed SKU.
func ValidSKU(s SKU) bool { return validSKU(s) }

// validSKU is ValidSKU for texts and for bytes of a command.
func validSKU[T ~string | ~[]byte](s T) bool {
	if len(s) == 0 || len(s) > MaxSKULen {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !skuByte[s[i]] {
			return false
		}
	}
	return true
}

// skuByte marks the alphabet of SKUs.
var skuByte = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-") {
		t[c] = true
	}
	return t
}()

// Status is where a reservation stands.
type Status uint8

// A reservation starts as Reserved and ends as one of the others; only a late
// confirm leads from Expired to Confirmed.
const (
	StatusReserved Status = iota + 1
	StatusConfirmed
	StatusCanceled
	StatusExpired
)

// String gives the status as the API spells it.
func (s Status) String() string {
	switch s {
	case StatusReserved:
		return "reserved"
	case StatusConfirmed:
		return "confirmed"
	case StatusCanceled:
		return "canceled"
	case StatusExpired:
		return "expired"
	}
	return "invalid"
}

// LateConfirm says what a confirm does to an expired reservation.
type LateConfirm uint8

const (
	// LateConfirmRetake takes the units again if there are any.
	LateConfirmRetake LateConfirm = iota
	// LateConfirmReject answers CodeReservationExpired.
	LateConfirmReject
)

// Policy is what a SKU's owner decided about its sale. Every bucket holds a
// copy; the anchor's is the one that counts, and the highest Version wins.
type Policy struct {
	Version           uint64   // 1 at creation, one more with each change
	SafetyStock       Quantity // withheld from sale, at the anchor
	MaxPerReservation Quantity // 0: no limit
	MaxPerBuyer       Quantity // 0: no limit
	DefaultTTL        Millis
	MaxTTL            Millis
	SaleStarts        Millis // 0: open since ever
	SaleEnds          Millis // 0: never ends; else the first moment that is closed
	LateConfirm       LateConfirm
	Paused            bool
	Watch             bool // the SKU gets its own metric series
}

// Line is one SKU of a reservation with its quantity.
type Line struct {
	SKU      SKU
	Quantity Quantity
}

// Reservation is a reservation as its home shard sees it.
type Reservation struct {
	ID        ReservationID
	Status    Status
	Lines     []Line // quantities still held or sold; 0 after a line was given back
	BuyerID   string
	Reference string
	Created   Millis
	Expires   Millis
	Ended     Millis // 0 while reserved
}
