package peers

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcdTxn compares the count and writes it with the order.
type etcdTxn struct {
	db *clientv3.Client
}

func openEtcd(_ context.Context, s *Servers) (Peer, error) {
	db, err := clientv3.New(clientv3.Config{Endpoints: []string{s.EtcdURL}, DialTimeout: startPatience, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	return &etcdTxn{db}, nil
}

// Stock implements Peer.
func (p *etcdTxn) Stock(ctx context.Context, units int) error {
	if _, err := p.db.Delete(ctx, "", clientv3.WithPrefix()); err != nil {
		return err
	}
	_, err := p.db.Put(ctx, "stock", strconv.Itoa(units))
	return err
}

// etcdTries bounds how often a transaction that others overtook is tried.
const etcdTries = 500

// Reserve implements Peer.
func (p *etcdTxn) Reserve(ctx context.Context, order string) (Outcome, error) {
	key := "order:" + order
	for range etcdTries {
		got, err := p.db.Get(ctx, "stock")
		if err != nil {
			return 0, err
		}
		if len(got.Kvs) != 1 {
			return 0, errAnswer
		}
		left, err := number(string(got.Kvs[0].Value))
		if err != nil {
			return 0, err
		}
		if left < 1 {
			return p.again(ctx, key)
		}
		res, err := p.db.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision("stock"), "=", got.Kvs[0].ModRevision), clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
			Then(clientv3.OpPut("stock", strconv.Itoa(left-1)), clientv3.OpPut(key, "1")).
			Else(clientv3.OpGet(key)).Commit()
		switch {
		case err != nil:
			return 0, err
		case res.Succeeded, len(res.Responses[0].GetResponseRange().Kvs) > 0:
			return Sold, nil
		}
		select {
		case <-time.After(rand.N(2 * time.Millisecond)):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return Busy, nil
}

// again tells an order that was served before from one that came too late.
func (p *etcdTxn) again(ctx context.Context, key string) (Outcome, error) {
	got, err := p.db.Get(ctx, key)
	if err != nil || len(got.Kvs) > 0 {
		return Sold, err
	}
	return SoldOut, nil
}

// Count implements Peer.
func (p *etcdTxn) Count(ctx context.Context) (c Count, err error) {
	got, err := p.db.Get(ctx, "stock")
	if err != nil || len(got.Kvs) != 1 {
		return c, err
	}
	if c.Left, err = number(string(got.Kvs[0].Value)); err != nil {
		return c, err
	}
	orders, err := p.db.Get(ctx, "order:", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return c, err
	}
	c.Orders = make(map[string]int)
	for _, kv := range orders.Kvs {
		c.Orders[string(kv.Key)[len("order:"):]]++
	}
	return c, nil
}
