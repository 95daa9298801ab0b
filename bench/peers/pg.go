package peers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgConns bounds the connections of a peer: as many as the most callers it is run with.
const pgConns = 256

// pg is what all peers on PostgreSQL share: one row of stock, and orders.
type pg struct {
	db *pgxpool.Pool
}

// schema begins anew. Orders say which ones have a unit, where a peer keeps them.
const schema = `
DROP TABLE IF EXISTS stock, orders, units CASCADE;
CREATE TABLE stock (sku text PRIMARY KEY, available int NOT NULL CHECK (available >= 0));
CREATE TABLE orders (id bigserial PRIMARY KEY, key text NOT NULL UNIQUE, status text NOT NULL, expires timestamptz NOT NULL);
CREATE INDEX ON orders (expires) WHERE status = 'held';
CREATE TABLE units (id int PRIMARY KEY, key text UNIQUE);
CREATE INDEX ON units (id) WHERE key IS NULL;`

func openPG(ctx context.Context, s *Servers) (*pg, error) {
	cfg, err := pgxpool.ParseConfig(s.PostgresURL)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = pgConns
	db, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &pg{db}, awaitPostgres(ctx, db)
}

// awaitPostgres waits until PostgreSQL, which takes connections before it is ready,
// answers.
func awaitPostgres(ctx context.Context, db *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := db.Ping(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Stock implements Peer.
func (p *pg) Stock(ctx context.Context, units int) error {
	if _, err := p.db.Exec(ctx, schema); err != nil {
		return err
	}
	_, err := p.db.Exec(ctx, `INSERT INTO stock VALUES ('s', $1)`, units)
	return err
}

// Count implements Peer.
func (p *pg) Count(ctx context.Context) (c Count, err error) {
	if err := p.db.QueryRow(ctx, `SELECT available FROM stock`).Scan(&c.Left); err != nil {
		return c, err
	}
	c.Orders, err = p.orders(ctx, `SELECT key FROM orders WHERE status <> 'expired'`)
	return c, err
}

func (p *pg) orders(ctx context.Context, query string) (map[string]int, error) {
	rows, err := p.db.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	orders := make(map[string]int)
	for _, key := range keys {
		orders[key]++
	}
	return orders, err
}

// unique tells whether a statement failed because the order is there already.
func unique(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "23505"
}

// pgUpdate is a conditional UPDATE and nothing else.
type pgUpdate struct{ *pg }

func openUpdate(ctx context.Context, s *Servers) (Peer, error) {
	p, err := openPG(ctx, s)
	return &pgUpdate{p}, err
}

// Reserve implements Peer.
func (p *pgUpdate) Reserve(ctx context.Context, _ string) (Outcome, error) {
	tag, err := p.db.Exec(ctx, `UPDATE stock SET available = available - 1 WHERE sku = 's' AND available >= 1`)
	if err != nil {
		return 0, err
	}
	if tag.RowsAffected() == 0 {
		return SoldOut, nil
	}
	return Sold, nil
}

// Count implements Peer: nobody knows who has a unit.
func (p *pgUpdate) Count(ctx context.Context) (Count, error) {
	c, err := p.pg.Count(ctx)
	c.Orders = nil
	return c, err
}

// pgOrder takes a unit and writes the order in one statement.
type pgOrder struct{ *pg }

func openOrder(ctx context.Context, s *Servers) (Peer, error) {
	p, err := openPG(ctx, s)
	return &pgOrder{p}, err
}

const takeWithOrder = `
WITH taken AS (UPDATE stock SET available = available - 1 WHERE sku = 's' AND available >= 1 RETURNING 1)
INSERT INTO orders (key, status, expires) SELECT $1, 'held', now() + interval '10 minutes' FROM taken`

// Reserve implements Peer. An order that is there already makes the statement fail, and
// with it the UPDATE.
func (p *pgOrder) Reserve(ctx context.Context, order string) (Outcome, error) {
	return p.take(ctx, order, takeWithOrder, ordered)
}

// ordered tells whether an order was served.
const ordered = `SELECT count(*) FROM orders WHERE key = $1`

// take runs a statement that takes a unit for an order if there is one, and fails if the
// order has one.
func (p *pg) take(ctx context.Context, order, statement, served string) (Outcome, error) {
	tag, err := p.db.Exec(ctx, statement, order)
	switch {
	case unique(err):
		return Sold, nil
	case err != nil:
		return 0, err
	case tag.RowsAffected() > 0:
		return Sold, nil
	}
	return p.again(ctx, order, served)
}

// again tells an order that was served before from one that came too late.
func (p *pg) again(ctx context.Context, order, served string) (Outcome, error) {
	var n int
	if err := p.db.QueryRow(ctx, served, order).Scan(&n); err != nil {
		return 0, err
	}
	if n > 0 {
		return Sold, nil
	}
	return SoldOut, nil
}

// pgForUpdate locks the row, looks, and writes.
type pgForUpdate struct{ *pg }

func openForUpdate(ctx context.Context, s *Servers) (Peer, error) {
	p, err := openPG(ctx, s)
	return &pgForUpdate{p}, err
}

var errSoldOut = errors.New("sold out")

// Reserve implements Peer.
func (p *pgForUpdate) Reserve(ctx context.Context, order string) (Outcome, error) {
	err := pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		var left int
		if err := tx.QueryRow(ctx, `SELECT available FROM stock WHERE sku = 's' FOR UPDATE`).Scan(&left); err != nil {
			return err
		}
		if left < 1 {
			return errSoldOut
		}
		if _, err := tx.Exec(ctx, `UPDATE stock SET available = available - 1 WHERE sku = 's'`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO orders (key, status, expires) VALUES ($1, 'held', now() + interval '10 minutes')`, order)
		return err
	})
	switch {
	case err == nil, unique(err):
		return Sold, nil
	case errors.Is(err, errSoldOut):
		return p.again(ctx, order, ordered)
	}
	return 0, err
}

// pgSkipLocked has a row for each unit.
type pgSkipLocked struct{ *pg }

func openSkipLocked(ctx context.Context, s *Servers) (Peer, error) {
	p, err := openPG(ctx, s)
	return &pgSkipLocked{p}, err
}

// Stock implements Peer.
func (p *pgSkipLocked) Stock(ctx context.Context, units int) error {
	if err := p.pg.Stock(ctx, 0); err != nil {
		return err
	}
	_, err := p.db.Exec(ctx, `INSERT INTO units SELECT n, NULL FROM generate_series(1, $1) n`, units)
	return err
}

// Reserve implements Peer.
func (p *pgSkipLocked) Reserve(ctx context.Context, order string) (Outcome, error) {
	return p.take(ctx, order, `
UPDATE units SET key = $1 WHERE id = (SELECT id FROM units WHERE key IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)`,
		`SELECT count(*) FROM units WHERE key = $1`)
}

// Count implements Peer.
func (p *pgSkipLocked) Count(ctx context.Context) (c Count, err error) {
	if err := p.db.QueryRow(ctx, `SELECT count(*) FROM units WHERE key IS NULL`).Scan(&c.Left); err != nil {
		return c, err
	}
	c.Orders, err = p.orders(ctx, `SELECT key FROM units WHERE key IS NOT NULL`)
	return c, err
}

// pgCleanUp is pgOrder with holds that end: a job marks them as expired and returns
// their units.
type pgCleanUp struct {
	*pgOrder
	once sync.Once
	ctx  context.Context
}

// cleanUpEvery is how often the job looks; holds stay for longer than they should by as
// much.
const cleanUpEvery = time.Second

func openCleanUp(ctx context.Context, s *Servers) (Peer, error) {
	p, err := openPG(ctx, s)
	return &pgCleanUp{pgOrder: &pgOrder{p}, ctx: ctx}, err
}

// Reserve implements Peer.
func (p *pgCleanUp) Reserve(ctx context.Context, order string) (Outcome, error) {
	p.once.Do(func() { go p.job() })
	return p.pgOrder.Reserve(ctx, order)
}

func (p *pgCleanUp) job() {
	tick := time.NewTicker(cleanUpEvery)
	defer tick.Stop()
	for p.ctx.Err() == nil {
		_, _ = p.db.Exec(p.ctx, `
WITH ended AS (UPDATE orders SET status = 'expired' WHERE status = 'held' AND expires < now() RETURNING 1)
UPDATE stock SET available = available + (SELECT count(*) FROM ended) WHERE sku = 's' AND EXISTS (SELECT 1 FROM ended)`) // it comes again
		select {
		case <-tick.C:
		case <-p.ctx.Done():
		}
	}
}

// number reads a count that a server sent as text.
func number(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%w: %q", errAnswer, text)
	}
	return n, nil
}
