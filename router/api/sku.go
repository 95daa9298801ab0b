package api

import "encoding/json"

// LateConfirm says what confirming an expired reservation does.
type LateConfirm string

const (
	// LateConfirmRetake takes the units again if there are any.
	LateConfirmRetake LateConfirm = "retake"
	// LateConfirmReject refuses.
	LateConfirmReject LateConfirm = "reject"
)

// Policy is what the owner of a SKU decides about its sale, but for the safety
// stock, which is one of the sums.
type Policy struct {
	MaxPerReservation int64       `json:"max_per_reservation"` // 0: no limit
	MaxPerBuyer       int64       `json:"max_per_buyer"`       // 0: no limit
	DefaultTTLSeconds int64       `json:"default_ttl_seconds"` // when the request names none
	MaxTTLSeconds     int64       `json:"max_ttl_seconds"`     // at most 2,592,000 (30 days)
	LateConfirm       LateConfirm `json:"late_confirm"`
	SaleStartsAt      Time        `json:"sale_starts_at,omitzero"` // 0: open since ever
	SaleEndsAt        Time        `json:"sale_ends_at,omitzero"`   // 0: never ends; else the first moment that is closed
	Watch             bool        `json:"watch"`                   // the SKU gets its own metric series
}

// PutSKURequest creates a SKU or replaces its policy. A field that is absent
// takes its default, not its earlier value.
type PutSKURequest struct {
	OnHand            *int64          `json:"on_hand,omitzero"`             // only to create the SKU
	SafetyStock       int64           `json:"safety_stock,omitzero"`        // at most OnHand
	MaxPerReservation int64           `json:"max_per_reservation,omitzero"` // 0: no limit
	MaxPerBuyer       int64           `json:"max_per_buyer,omitzero"`       // 0: no limit
	DefaultTTLSeconds int64           `json:"default_ttl_seconds,omitzero"` // 0: 600
	MaxTTLSeconds     int64           `json:"max_ttl_seconds,omitzero"`     // 0: 2,592,000
	LateConfirm       LateConfirm     `json:"late_confirm,omitempty"`       // empty: retake
	SaleStartsAt      Time            `json:"sale_starts_at,omitzero"`
	SaleEndsAt        Time            `json:"sale_ends_at,omitzero"`
	Watch             bool            `json:"watch,omitzero"`
	Metadata          json.RawMessage `json:"metadata,omitempty"` // an object, at most 4 KiB as canonical JSON
}

// SKU is everything known of one SKU: its policy, its sums over all shards and
// its buckets.
type SKU struct {
	SKU     string `json:"sku"`
	Version uint64 `json:"version"` // of the policy; the ETag
	Paused  bool   `json:"paused"`
	Sums
	Buckets []Bucket `json:"buckets"`
	Policy
	Metadata  json.RawMessage `json:"metadata,omitempty"`
	CreatedAt Time            `json:"created_at"`
	UpdatedAt Time            `json:"updated_at"`
	AsOf      Time            `json:"as_of"`
	Effect
}

// Effect is part of the answer to a change of policy or state. The change is made
// and stays; EffectiveAt is when all shards surely went by it. It is absent when
// some, PendingShards, could not be seen to in time: they will when they can be
// reached.
type Effect struct {
	EffectiveAt   Time  `json:"effective_at,omitzero"`
	PendingShards []int `json:"pending_shards,omitempty"`
}

// SKUVersion is the answer to a change that was made when the SKU could not be
// read back in time, because a shard can't be reached.
type SKUVersion struct {
	SKU     string `json:"sku"`
	Version uint64 `json:"version"`
	Effect
}

// Bucket is the part of a SKU that one shard owns.
type Bucket struct {
	Shard     int   `json:"shard"`
	Available int64 `json:"available"`
	Reserved  int64 `json:"reserved"`
	Committed int64 `json:"committed"`
}

// SKUSummary is one row of a list of SKUs.
type SKUSummary struct {
	SKU         string `json:"sku"`
	Version     uint64 `json:"version"`
	Paused      bool   `json:"paused"`
	OnHand      int64  `json:"on_hand"`            // deposits and adjustments so far
	Available   *int64 `json:"available,omitzero"` // only in a list with it: units for sale, all shards together
	SafetyStock int64  `json:"safety_stock"`
	Policy
	CreatedAt Time `json:"created_at"`
	UpdatedAt Time `json:"updated_at"`
}

// SKUPage is a page of a list of SKUs, in the order of their names.
type SKUPage struct {
	Data       []SKUSummary `json:"data"`
	NextCursor *string      `json:"next_cursor"` // nil on the last page
}

// RestockRequest adds units to a SKU.
type RestockRequest struct {
	Quantity  int64  `json:"quantity"`
	Reference string `json:"reference,omitempty"`
}

// AdjustRequest corrects the count of a SKU, up or down.
type AdjustRequest struct {
	Delta  int64  `json:"delta"`
	Reason string `json:"reason"`
}
