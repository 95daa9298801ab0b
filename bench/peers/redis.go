package peers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// rd is what all peers on Redis share.
type rd struct {
	db *redis.Client
}

// redisConns bounds the connections of a peer, as pgConns does.
const redisConns = 256

func openRedis(s *Servers) *rd {
	return &rd{redis.NewClient(&redis.Options{Addr: s.RedisAddr, PoolSize: redisConns, MaxRetries: -1, ContextTimeoutEnabled: true})}
}

// Stock implements Peer.
func (p *rd) Stock(ctx context.Context, units int) error {
	if err := p.db.FlushAll(ctx).Err(); err != nil {
		return err
	}
	return p.db.Set(ctx, "stock", units, 0).Err()
}

// Count implements Peer: the orders are keys of their own.
func (p *rd) Count(ctx context.Context) (c Count, err error) {
	text, err := p.db.Get(ctx, "stock").Result()
	if err != nil {
		return c, err
	}
	if c.Left, err = number(text); err != nil {
		return c, err
	}
	c.Orders = make(map[string]int)
	keys := p.db.Scan(ctx, 0, "order:*", 1000).Iterator()
	for keys.Next(ctx) {
		c.Orders[keys.Val()[len("order:"):]]++
	}
	return c, keys.Err()
}

// redisDecr counts down and, below zero, up again.
type redisDecr struct{ *rd }

func openDecr(_ context.Context, s *Servers) (Peer, error) { return &redisDecr{openRedis(s)}, nil }

// Reserve implements Peer. The order is written afterwards, as shops do it.
func (p *redisDecr) Reserve(ctx context.Context, order string) (Outcome, error) {
	left, err := p.db.Decr(ctx, "stock").Result()
	if err != nil {
		return 0, err
	}
	if left < 0 {
		return SoldOut, p.db.Incr(ctx, "stock").Err()
	}
	return Sold, p.db.Set(ctx, "order:"+order, 1, 0).Err()
}

// redisLua does all at once on the server.
type redisLua struct{ *rd }

func openLua(_ context.Context, s *Servers) (Peer, error) { return &redisLua{openRedis(s)}, nil }

// reserveScript holds a unit for an order: -1 means sold out, 0 that the order has its
// unit already. Holds end at their score, and are taken back by whoever comes next.
var reserveScript = redis.NewScript(`
local now = tonumber(ARGV[2])
for _, key in ipairs(redis.call('ZRANGEBYSCORE', 'holds', '-inf', now, 'LIMIT', 0, 10)) do
  redis.call('ZREM', 'holds', key)
  redis.call('DEL', 'order:' .. key)
  redis.call('INCR', 'stock')
end
if redis.call('EXISTS', 'order:' .. ARGV[1]) == 1 then return 0 end
if tonumber(redis.call('GET', 'stock')) < 1 then return -1 end
redis.call('DECR', 'stock')
redis.call('SET', 'order:' .. ARGV[1], 1)
redis.call('ZADD', 'holds', now + 600000, ARGV[1])
return 1`)

// Reserve implements Peer.
func (p *redisLua) Reserve(ctx context.Context, order string) (Outcome, error) {
	n, err := reserveScript.Run(ctx, p.db, nil, order, time.Now().UnixMilli()).Int()
	if err != nil {
		return 0, err
	}
	if n < 0 {
		return SoldOut, nil
	}
	return Sold, nil
}

// redisSetNX marks the order first and counts down then.
type redisSetNX struct{ *rd }

func openSetNX(_ context.Context, s *Servers) (Peer, error) { return &redisSetNX{openRedis(s)}, nil }

// Reserve implements Peer.
func (p *redisSetNX) Reserve(ctx context.Context, order string) (Outcome, error) {
	first, err := p.db.SetNX(ctx, "order:"+order, 1, 0).Result()
	if err != nil || !first {
		return Sold, err
	}
	left, err := p.db.Decr(ctx, "stock").Result()
	if err != nil {
		return 0, err
	}
	if left < 0 {
		return SoldOut, errors.Join(p.db.Incr(ctx, "stock").Err(), p.db.Del(ctx, "order:"+order).Err())
	}
	return Sold, nil
}

// redisLock takes a lock, looks, and writes.
type redisLock struct{ *rd }

func openLock(_ context.Context, s *Servers) (Peer, error) { return &redisLock{openRedis(s)}, nil }

const (
	lockTTL   = 500 * time.Millisecond
	lockTries = 200
)

// unlockScript lets go of a lock that is still ours.
var unlockScript = redis.NewScript(`if redis.call('GET', 'lock') == ARGV[1] then return redis.call('DEL', 'lock') end return 0`)

// Reserve implements Peer.
func (p *redisLock) Reserve(ctx context.Context, order string) (Outcome, error) {
	token := fmt.Sprint(rand.Uint64())
	for try := 0; ; try++ {
		got, err := p.db.SetNX(ctx, "lock", token, lockTTL).Result()
		if err != nil {
			return 0, err
		}
		if got {
			break
		}
		if try == lockTries {
			return Busy, nil
		}
		select {
		case <-time.After(rand.N(5 * time.Millisecond)):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	o, err := p.locked(ctx, order)
	return o, errors.Join(err, unlockScript.Run(ctx, p.db, nil, token).Err())
}

func (p *redisLock) locked(ctx context.Context, order string) (Outcome, error) {
	if n, err := p.db.Exists(ctx, "order:"+order).Result(); err != nil || n > 0 {
		return Sold, err
	}
	text, err := p.db.Get(ctx, "stock").Result()
	if err != nil {
		return 0, err
	}
	left, err := number(text)
	if err != nil || left < 1 {
		return SoldOut, err
	}
	if err := p.db.Set(ctx, "stock", left-1, 0).Err(); err != nil {
		return 0, err
	}
	return Sold, p.db.Set(ctx, "order:"+order, 1, 0).Err()
}

// queue has one consumer write what a stream brings.
type queue struct {
	*rd
	store *pg
	once  sync.Once
	ctx   context.Context
}

func openQueue(ctx context.Context, s *Servers) (Peer, error) {
	store, err := openPG(ctx, s)
	return &queue{rd: openRedis(s), store: store, ctx: ctx}, err
}

// Stock implements Peer.
func (p *queue) Stock(ctx context.Context, units int) error {
	return errors.Join(p.rd.Stock(ctx, 0), p.store.Stock(ctx, units))
}

// Count implements Peer.
func (p *queue) Count(ctx context.Context) (Count, error) { return p.store.Count(ctx) }

// queueBatch is how many orders the consumer writes in one transaction.
const queueBatch = 256

// Reserve implements Peer: it puts the order into the stream and waits for the answer,
// which comes over a list of the order's own.
func (p *queue) Reserve(ctx context.Context, order string) (Outcome, error) {
	p.once.Do(func() { go p.consume() })
	if err := p.db.XAdd(ctx, &redis.XAddArgs{Stream: "queue", Values: []string{"order", order}}).Err(); err != nil {
		return 0, err
	}
	got, err := p.db.BLPop(ctx, 5*time.Second, "answer:"+order).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return Busy, nil
	case err != nil:
		return 0, err
	case len(got) == 2 && got[1] == "sold":
		return Sold, nil
	}
	return SoldOut, nil
}

// consume serves the stream, in its order, until the peer's life ends.
func (p *queue) consume() {
	for last := "0"; p.ctx.Err() == nil; {
		got, err := p.db.XRead(p.ctx, &redis.XReadArgs{Streams: []string{"queue", last}, Count: queueBatch, Block: time.Second}).Result()
		if err != nil || len(got) == 0 {
			continue // nothing came, or the stream is not there yet
		}
		for {
			if answers, err := p.serve(got[0].Messages); err == nil {
				p.tell(answers)
				break
			} else if p.ctx.Err() != nil {
				return
			}
		}
		last = got[0].Messages[len(got[0].Messages)-1].ID
	}
}

// serve writes a batch of orders in one transaction.
func (p *queue) serve(messages []redis.XMessage) (map[string]string, error) {
	answers := make(map[string]string)
	tx, err := p.store.db.Begin(p.ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(p.ctx) }() // after a commit it does nothing
	for _, m := range messages {
		order := fmt.Sprint(m.Values["order"])
		tag, err := tx.Exec(p.ctx, `
WITH new AS (INSERT INTO orders (key, status, expires) SELECT $1, 'held', now() + interval '10 minutes'
  WHERE (SELECT available FROM stock WHERE sku = 's') >= 1 ON CONFLICT DO NOTHING RETURNING 1)
UPDATE stock SET available = available - 1 WHERE sku = 's' AND EXISTS (SELECT 1 FROM new)`, order)
		if err != nil {
			return nil, err
		}
		answers[order] = "sold"
		if tag.RowsAffected() > 0 {
			continue
		}
		var n int
		if err := tx.QueryRow(p.ctx, `SELECT count(*) FROM orders WHERE key = $1`, order).Scan(&n); err != nil {
			return nil, err
		}
		if n == 0 {
			answers[order] = "sold out"
		}
	}
	return answers, tx.Commit(p.ctx)
}

// tell answers those who wait. Answers that nobody takes go away.
func (p *queue) tell(answers map[string]string) {
	_, _ = p.db.Pipelined(p.ctx, func(pipe redis.Pipeliner) error { // who is not told asks again
		for order, answer := range answers {
			pipe.RPush(p.ctx, "answer:"+order, answer)
			pipe.Expire(p.ctx, "answer:"+order, time.Minute)
		}
		return nil
	})
}
