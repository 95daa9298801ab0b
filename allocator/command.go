package allocator

// Kind tells commands apart on the wire. Values are part of the format: never
// reuse one.
type Kind uint8

// The commands of version 1.
const (
	KindReserve Kind = iota + 1
	KindConfirm
	KindCancel
	KindExtend
	KindReturn
	KindPutSKU
	KindSetPaused
	KindRestock
	KindAdjust
	KindTransferOut
	KindTransferIn
	KindTransferAck
	KindAudit
)

// Command is one of the command types below. A command is encoded once, where
// it is made, and travels as bytes from then on.
type Command interface {
	// AppendTo appends the encoded command to b.
	AppendTo(b []byte) []byte
	// Kind tells which command this is.
	Kind() Kind
}

// Reserve holds units of one or more SKUs, all or none.
type Reserve struct {
	Key       Key         // idempotency; never zero: the router makes one when the client gave none
	Body      Fingerprint // of everything the client asked for
	KeyTime   Millis      // when the key was made, if the key tells (UUIDv7, ULID); else 0
	TTL       Millis      // 0: the smallest DefaultTTL of the SKUs
	Buyer     Buyer       // zero: none
	BuyerID   string
	Reference string
	Lines     []Line // 1..MaxLines, sorted by SKU, each SKU once
}

// Confirm sells what a reservation holds. With Lines only that much is sold and
// the rest goes back.
type Confirm struct {
	ID    ReservationID
	Lines []Line // empty: everything; else sorted by SKU, each SKU once
}

// Cancel gives back what a reservation holds.
type Cancel struct {
	ID ReservationID
}

// Extend lets a reservation live until TTL from now, if that is later.
type Extend struct {
	ID  ReservationID
	TTL Millis
}

// Return makes units of a confirmed reservation available again. It carries a
// key because returning a part is not repeatable by nature.
type Return struct {
	Key   Key
	Body  Fingerprint
	ID    ReservationID
	Lines []Line // empty: everything that is left
}

// PutSKU creates a SKU or replaces its policy, on its anchor. Policy.Version is
// ignored.
type PutSKU struct {
	Key         Key
	Body        Fingerprint
	SKU         SKU
	Policy      Policy
	HasOnHand   bool // deposit OnHand and create; refused when the SKU exists
	OnHand      Quantity
	IfNoneMatch bool   // only create
	IfMatch     uint64 // only replace this version; 0: any
	Metadata    []byte // opaque, kept at the anchor
}

// SetPaused stops or resumes the sale of a SKU, on its anchor.
type SetPaused struct {
	SKU    SKU
	Paused bool
}

// Restock deposits units on the SKU's anchor.
type Restock struct {
	Key       Key
	Body      Fingerprint
	SKU       SKU
	Quantity  Quantity
	Reference string
}

// Adjust corrects the count by Delta, on the SKU's anchor. A negative delta
// takes available units only.
type Adjust struct {
	Key    Key
	Body   Fingerprint
	SKU    SKU
	Delta  Quantity // not 0, at most MaxQuantity either way
	Reason string   // at most MaxReferenceLen bytes
}

// TransferOut moves units of a SKU towards another shard: the first step of a
// transfer, in which the giver's bucket shrinks and its outbox grows.
type TransferOut struct {
	SKU SKU
	To  ShardID
	// Quantity is how many units to send; fewer are sent when fewer are
	// available. 0 only makes sense with Open.
	Quantity Quantity
	// Open sends the policy when there is not a unit to send, so that the other
	// shard gets to know the SKU.
	Open bool
}

// TransferIn is the second step: the destination takes messages in. Messages
// numbered First, First+1, … are taken exactly once, in order.
type TransferIn struct {
	From     ShardID
	First    uint64
	Messages []Message // 1..MaxMessages
}

// TransferAck is the last step: the source forgets the messages up to Through,
// which the destination has taken in.
type TransferAck struct {
	To      ShardID
	Through uint64
}

// Audit carries the leader's rolling hash after Applied commands. A replica
// whose hash differs there returns an error from Apply, which stops it.
type Audit struct {
	Applied uint64
	Hash    uint64
}

// MessageKind tells what a message between shards does.
type MessageKind uint8

const (
	// MessageUnits moves units and carries the policy, which opens the bucket.
	MessageUnits MessageKind = iota + 1
	// MessagePolicy carries the policy only.
	MessagePolicy
)

// Message is one entry of an outbox as it is delivered.
type Message struct {
	Kind     MessageKind
	SKU      SKU
	Quantity Quantity // units; 0 for MessagePolicy
	Policy   Policy   // the sender's, at the time of delivery
}

// Kind implements Command.
func (*Reserve) Kind() Kind { return KindReserve }

// Kind implements Command.
func (*Confirm) Kind() Kind { return KindConfirm }

// Kind implements Command.
func (*Cancel) Kind() Kind { return KindCancel }

// Kind implements Command.
func (*Extend) Kind() Kind { return KindExtend }

// Kind implements Command.
func (*Return) Kind() Kind { return KindReturn }

// Kind implements Command.
func (*PutSKU) Kind() Kind { return KindPutSKU }

// Kind implements Command.
func (*SetPaused) Kind() Kind { return KindSetPaused }

// Kind implements Command.
func (*Restock) Kind() Kind { return KindRestock }

// Kind implements Command.
func (*Adjust) Kind() Kind { return KindAdjust }

// Kind implements Command.
func (*TransferOut) Kind() Kind { return KindTransferOut }

// Kind implements Command.
func (*TransferIn) Kind() Kind { return KindTransferIn }

// Kind implements Command.
func (*TransferAck) Kind() Kind { return KindTransferAck }

// Kind implements Command.
func (*Audit) Kind() Kind { return KindAudit }
