package allocator

// Vector is a shard's view of its transfers with every other shard, indexed by
// ShardID. Sequence numbers start at 1; 0 means none yet.
type Vector struct {
	Sent     []uint64 // last message put into the outbox towards that shard
	Acked    []uint64 // last message towards that shard that was acknowledged
	Received []uint64 // last message taken in from that shard
}

// Flow is the running sum of one SKU's units exchanged with one other shard.
type Flow struct {
	Peer     ShardID
	Sent     Quantity // put into the outbox towards Peer, ever
	Acked    Quantity // the part of Sent that Peer has acknowledged
	Received Quantity // taken in from Peer, ever
}

// InTransit is one undelivered or unacknowledged message that holds units.
type InTransit struct {
	To       ShardID
	Seq      uint64
	Quantity Quantity
}

// BucketReport is everything one shard knows of one SKU, with the transfer
// vector read at the same index. Known is false when there is no bucket: then
// only Shard, Shards, Vector, Stamp, Applied and Hash are set.
type BucketReport struct {
	Shard   ShardID
	Shards  int // of the cluster
	SKU     SKU
	Known   bool
	Anchor  bool // this shard is the SKU's anchor
	Policy  Policy
	Created Millis
	Updated Millis

	Deposited Quantity // by creation and restock, ever (anchor)
	Adjusted  Quantity // by adjustments, ever, may be negative (anchor)
	Available Quantity
	Reserved  Quantity
	Committed Quantity
	Safety    Quantity // withheld from sale (anchor)

	Flows  []Flow      // by Peer, ascending; only peers that took part
	Outbox []InTransit // by (To, Seq), ascending; this SKU's messages only

	Metadata []byte // anchor only

	// Rate is how many units a second were asked for here lately. The state does
	// not know it; the shard's leader fills it in.
	Rate float64

	Vector  Vector
	Stamp   Millis // the highest stamp applied
	Applied uint64 // commands applied
	Hash    uint64 // rolling hash after them
}

// Held is the sum of units that are in the bucket itself.
func (r *BucketReport) Held() Quantity {
	return r.Available + r.Reserved + r.Committed + r.Safety
}

// Received is the sum of units that ever came in from other shards.
func (r *BucketReport) Received() (sum Quantity) {
	for _, f := range r.Flows {
		sum += f.Received
	}
	return sum
}

// SKUSummary is one row of a listing.
type SKUSummary struct {
	SKU     SKU
	Policy  Policy
	Created Millis
	Updated Millis
	OnHand  Quantity // deposits and adjustments so far
}

// Stats are the totals of a shard, for metrics.
type Stats struct {
	SKUs      int // buckets
	Available Quantity
	Reserved  Quantity
	Committed Quantity
	Safety    Quantity
	InTransit Quantity
	Live      int                       // open reservations
	Records   int                       // records in memory: reservations and keyed operations
	Bytes     int64                     // memory of records, indexes and buckets, estimated
	EndedBy   [StatusExpired + 1]uint64 // reservations ended, ever, by final status
	Retaken   uint64                    // late confirms that took units again
	Transfers uint64                    // TransferOut that moved units, ever
	UnitsSent Quantity
	OutboxLen int
	ExpiryLag Millis // how long the longest overdue reservation has been due
	Purchases int    // (buyer, SKU) counters in memory
}
