package peers

import (
	"context"
	"errors"
)

// Outcome is what a client was told.
type Outcome uint8

// The outcomes of a request that was answered. One that was not is an error.
const (
	Sold Outcome = iota
	SoldOut
	Busy // it was refused for now, because of others
)

// Peer is one way to reserve a unit. Its methods are safe for concurrent use.
type Peer interface {
	// Stock begins anew, with so many units to sell.
	Stock(ctx context.Context, units int) error
	// Reserve takes a unit for an order. The same order may be sent again by a client
	// that does not know what became of it; a peer that can't tell takes another.
	Reserve(ctx context.Context, order string) (Outcome, error)
	// Count says what there is in the end.
	Count(ctx context.Context) (Count, error)
}

// Count is what a peer's storage says after a sale. Quantities are units.
type Count struct {
	Left   int            // for sale
	Orders map[string]int // units by order; nil: the peer does not know who has a unit
}

// Kind is a peer and where it runs.
type Kind struct {
	Name  string
	About string // one sentence
	open  func(ctx context.Context, s *Servers) (Peer, error)
	needs server
}

// Kinds are all peers, in the order of the table.
func Kinds() []Kind {
	return []Kind{
		{"pg-update", "PostgreSQL: conditional UPDATE of one row, no record of who bought", openUpdate, postgres},
		{"pg-order", "PostgreSQL: conditional UPDATE and an order row with a unique key, in one statement", openOrder, postgres},
		{"pg-for-update", "PostgreSQL: SELECT … FOR UPDATE, UPDATE, INSERT in one transaction", openForUpdate, postgres},
		{"pg-skip-locked", "PostgreSQL: a row for each unit, taken with FOR UPDATE SKIP LOCKED", openSkipLocked, postgres},
		{"pg-cleanup", "PostgreSQL: as pg-order with holds that end, which a job returns to the stock", openCleanUp, postgres},
		{"redis-decr", "Redis: DECR, and INCR when it went below zero", openDecr, redisServer},
		{"redis-lua", "Redis: a script with hold, idempotency key and expiry", openLua, redisServer},
		{"redis-setnx", "Redis: SET NX of a flag for the order, then DECR", openSetNX, redisServer},
		{"redis-lock", "Redis: a lock (SET NX PX) around GET and SET", openLock, redisServer},
		{"queue", "a Redis stream before one consumer that writes to PostgreSQL", openQueue, postgres | redisServer},
		{"etcd-txn", "etcd: a transaction that compares the count and writes it with the order", openEtcd, etcd},
	}
}

// errAnswer is an answer that makes no sense.
var errAnswer = errors.New("the server's answer makes no sense")
