package shardrpc

import (
	"time"

	"stockade/allocator"
)

// Limits of the contract. Each bounds what one peer can make another one hold.
const (
	// MaxNodeIDLen bounds the bytes of a NodeID: a host name's label, and a
	// suffix.
	MaxNodeIDLen = 64

	// MaxResultLen bounds the bytes of an encoded result. The largest, a refusal
	// that speaks of a reservation of 32 lines, has less than 8 KiB.
	MaxResultLen = 64 * 1024

	// MaxTimeout bounds the time that a proposal can be given. The longest
	// deadline of the public API is 30 s; internal work asks for less.
	MaxTimeout = 10 * time.Minute

	// MaxUnderWay bounds the proposals a Dispatcher has under way, but for Final
	// ones. At 300,000
	// proposals a second and the usual deadline of 2 s more could not end in
	// time anyway; 65,536 take about 30 MB.
	MaxUnderWay = 65_536

	// MaxBucketsPerRequest bounds the shards of one BucketsRequest. A report has
	// a vector with three numbers per shard of the cluster, so that 64 reports of
	// 1,024 shards have up to 64 × 1,024 × 3 × 10 B = 2 MiB.
	MaxBucketsPerRequest = 64

	// MaxSKUsPerRequest bounds the rows of one SKUsRequest: 1,000 rows of less
	// than 256 B are 256 KiB.
	MaxSKUsPerRequest = 1000

	// MaxLevels bounds the SKUs of one stream of levels: those that a node sells
	// out, or sells without keys, at the same time. 1,024 levels of 1,024 shards
	// are some 100 MB in the subscriber.
	MaxLevels = 1024

	// MaxClaims bounds the claims of one pull.
	MaxClaims = 32

	// MaxVoters bounds the voters in a ShardStatus; nobody runs groups of more.
	MaxVoters = 64
)

const (
	// maxFrameLen is how long a frame's items get before the next frame begins:
	// long enough that the cost of a frame vanishes, short enough that the other
	// side starts on the first part while the rest is sent.
	maxFrameLen = 1 << 20

	// maxStreamMessage bounds a frame as gRPC receives it: a frame just below
	// maxFrameLen may still take one item of the largest size.
	maxStreamMessage = maxFrameLen + allocator.MaxCommandLen + MaxResultLen + 1024

	// maxUnaryMessage bounds the other messages. The outbox parts of bucket
	// reports are what can grow; the rest has less than 4 MiB.
	maxUnaryMessage = 16 << 20

	// maxMessage is the bound for a server's or client's connection, which knows
	// only one; Propose has its own, checked before a frame's items are read.
	maxMessage = max(maxStreamMessage, maxUnaryMessage)

	// maxStreamInFlight bounds the proposals that a server has read from one
	// stream and not answered: what one router has open at most, 16,384 under way
	// and twice 8,192 that wait in line. Beyond it more are refused at once. The
	// stream is read all the same: it may bring the very transfers that the open
	// ones wait for, which are Final and not bounded here, because their senders
	// have few.
	maxStreamInFlight = 32_768

	// maxStreamBacklog bounds the answers of one stream that the other side has not
	// taken. Beyond it the server stops reading, which holds the client back: a
	// client that does not read its answers must not fill the server. Answers wait
	// for nothing but the network, so that can't be a deadlock. 65,536 take about
	// 20 MB.
	maxStreamBacklog = 65_536

	// maxClientPending bounds the proposals that one client has under way, but for
	// Final ones. It is what a server takes from a stream, and as many on the way.
	maxClientPending = 2 * maxStreamInFlight

	// maxRate bounds the units a second that a shard can be asked for: the largest
	// quantity, a hundred thousand times.
	maxRate = 1e14

	// maxOutboxRows bounds the undelivered messages in one bucket report that a
	// client takes: far beyond the allocator's own bound for one SKU.
	maxOutboxRows = 1 << 20
)
