package api

// Audit is the proof that no unit of a SKU was made or lost. In every shard
// In − Out = Held + Sold; and what the shards sent to each other was received or
// is still in an outbox.
type Audit struct {
	SKU      string   `json:"sku"`
	Balanced bool     `json:"balanced"`
	Problems []string `json:"problems,omitempty"` // what does not add up, when not balanced
	// SoldOut: no unit is for sale nor on its way, and nobody waits in line.
	SoldOut bool `json:"sold_out"`
	Sums
	Shards []AuditShard `json:"shards"`
	AsOf   Time         `json:"as_of"`
}

// Sums are a SKU's units over all shards. OnHand = Available + Reserved +
// Committed + InTransit + SafetyStock.
type Sums struct {
	OnHand      int64 `json:"on_hand"`
	Available   int64 `json:"available"`
	Reserved    int64 `json:"reserved"`
	Committed   int64 `json:"committed"`
	InTransit   int64 `json:"in_transit"`
	SafetyStock int64 `json:"safety_stock"`
}

// AuditShard is one shard's part of an audit.
type AuditShard struct {
	Shard  int  `json:"shard"`
	Anchor bool `json:"anchor"` // the SKU's policy and deposits are here

	In   int64 `json:"in"`   // deposits, adjustments and units received
	Out  int64 `json:"out"`  // units sent
	Held int64 `json:"held"` // available, reserved and withheld
	Sold int64 `json:"sold"` // committed

	Deposited   int64 `json:"deposited"`
	Adjusted    int64 `json:"adjusted"`
	Available   int64 `json:"available"`
	Reserved    int64 `json:"reserved"`
	Committed   int64 `json:"committed"`
	SafetyStock int64 `json:"safety_stock"`

	Flows  []Flow    `json:"flows"`  // units exchanged with each other shard, ever
	Outbox []Message `json:"outbox"` // sent and not yet acknowledged
	Vector Vector    `json:"vector"`

	Waiting int `json:"waiting"` // requests in line for the SKU

	Applied uint64 `json:"applied"` // commands applied
	Hash    string `json:"hash"`    // rolling hash after them, in hexadecimal
	AsOf    Time   `json:"as_of"`
}

// Flow is what a shard exchanged with another, in units of the SKU.
type Flow struct {
	Peer     int   `json:"peer"`
	Sent     int64 `json:"sent"`
	Acked    int64 `json:"acked"` // the part of Sent that the peer has acknowledged
	Received int64 `json:"received"`
}

// Message is an entry of an outbox that holds units of the SKU.
type Message struct {
	To       int    `json:"to"`
	Seq      uint64 `json:"seq"`
	Quantity int64  `json:"quantity"`
}

// Vector has the last message numbers a shard exchanged with every other, by
// shard; 0 is none.
type Vector struct {
	Sent     []uint64 `json:"sent"`
	Acked    []uint64 `json:"acked"`
	Received []uint64 `json:"received"`
}
