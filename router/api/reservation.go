package api

// Status is where a reservation stands.
type Status string

// The states of a reservation. It starts as reserved.
const (
	StatusReserved  Status = "reserved"
	StatusConfirmed Status = "confirmed"
	StatusCanceled  Status = "canceled"
	StatusExpired   Status = "expired"
)

// Line is one SKU with a quantity: 1 to 1,000,000,000 in a request. In an answer
// 0 says that everything of the line was given back.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// ReserveRequest asks for a reservation: either SKU and Quantity, or 1 to 32
// Lines, which are reserved all or none.
type ReserveRequest struct {
	SKU        string `json:"sku,omitempty"`
	Quantity   int64  `json:"quantity,omitzero"`
	Lines      []Line `json:"lines,omitempty"`
	TTLSeconds int64  `json:"ttl_seconds,omitzero"` // 0: the SKU's default
	BuyerID    string `json:"buyer_id,omitempty"`   // at most 128 bytes
	Reference  string `json:"reference,omitempty"`  // at most 255 bytes; shown again, never read
	WaitMS     int64  `json:"wait_ms,omitzero"`     // how long to wait in line when there are no units; at most 30,000
}

// Reservation is a hold on units, and what became of it.
type Reservation struct {
	ID        string `json:"id"`
	Status    Status `json:"status"`
	Lines     []Line `json:"lines"`
	BuyerID   string `json:"buyer_id,omitempty"`
	Reference string `json:"reference,omitempty"`
	CreatedAt Time   `json:"created_at"`
	ExpiresAt Time   `json:"expires_at"`
	EndedAt   Time   `json:"ended_at,omitzero"`
}

// ReserveBatchRequest asks for 1 to 1,000 reservations that have nothing to do
// with each other: each is made or refused on its own.
type ReserveBatchRequest struct {
	Reservations []ReserveBatchItem `json:"reservations"`
}

// ReserveBatchItem is one reservation of a batch with its own idempotency key.
type ReserveBatchItem struct {
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	ReserveRequest
}

// BatchAnswer has one result for each item of a batch, in the same order.
type BatchAnswer struct {
	Results []BatchResult `json:"results"`
}

// BatchResult says what became of one item: Reservation or Problem, with the
// status that a request of its own would have got.
type BatchResult struct {
	Status      int          `json:"status"`
	Replayed    bool         `json:"replayed,omitzero"` // the key was seen before; this is its first answer
	Reservation *Reservation `json:"reservation,omitempty"`
	Problem     *Problem     `json:"problem,omitempty"`
}

// ConfirmRequest sells what a reservation holds, or only Lines of it; the rest
// goes back on sale.
type ConfirmRequest struct {
	Lines []Line `json:"lines,omitempty"`
}

// ExtendRequest lets a reservation live for TTLSeconds from now.
type ExtendRequest struct {
	TTLSeconds int64 `json:"ttl_seconds"`
}

// ReturnRequest puts units of a confirmed reservation back on sale: Lines, or
// everything that is left.
type ReturnRequest struct {
	Lines []Line `json:"lines,omitempty"`
}

// ActionOp names what an action does.
type ActionOp string

// The actions of a batch.
const (
	ActionConfirm ActionOp = "confirm"
	ActionCancel  ActionOp = "cancel"
	ActionExtend  ActionOp = "extend"
	ActionReturn  ActionOp = "return"
)

// ActionsRequest carries 1 to 1,000 actions, each done or refused on its own.
type ActionsRequest struct {
	Actions []Action `json:"actions"`
}

// Action is one step on one reservation. Lines go with confirm and return,
// TTLSeconds with extend, IdempotencyKey with return.
type Action struct {
	Op             ActionOp `json:"op"`
	ID             string   `json:"id"`
	Lines          []Line   `json:"lines,omitempty"`
	TTLSeconds     int64    `json:"ttl_seconds,omitzero"`
	IdempotencyKey string   `json:"idempotency_key,omitempty"`
}

// Availability says how many units of a SKU are for sale.
type Availability struct {
	SKU       string              `json:"sku"`
	Available int64               `json:"available"`
	SoldOut   bool                `json:"sold_out"`
	AsOf      Time                `json:"as_of"`
	Shards    []AvailabilityShard `json:"shards,omitempty"` // what a strong answer stands on
}

// AvailabilityShard is what one shard has of a SKU after Applied commands.
type AvailabilityShard struct {
	Shard     int    `json:"shard"`
	Applied   uint64 `json:"applied"`
	Available int64  `json:"available"`
	InTransit int64  `json:"in_transit"` // sent by this shard, and not arrived
	Waiting   int    `json:"waiting"`    // requests in line
}
