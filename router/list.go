package router

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"

	"stockade/allocator"
	"stockade/shard/shardrpc"
)

// MaxSKUPage bounds the rows of one page of SKUs.
const MaxSKUPage = shardrpc.MaxSKUsPerRequest

// SKUPage is a page of a list of SKUs, in order of their names.
type SKUPage struct {
	SKUs []allocator.SKUSummary
	Next string // cursor of the next page; "" on the last
}

// SKUs lists the SKUs whose names begin with prefix, limit of them (at most
// MaxSKUPage), from cursor on ("" for the first page). A page is not a moment:
// SKUs that are made while pages are read may be missing.
func (r *Router) SKUs(ctx context.Context, prefix, cursor string, limit int) (page SKUPage, err error) {
	after, err := checkList(prefix, cursor, limit)
	if err != nil {
		return page, r.fail(opSKUs, err)
	}
	q, err := r.begin(ctx, opSKUs, single)
	if err != nil {
		return page, err
	}
	defer func() { q.end(err) }()
	ctx = q.bounded(ctx)
	m := newMerge(r, prefix, after, limit)
	if err := m.fillAll(ctx); err != nil {
		return page, asUnavailable(err)
	}
	rows, more, err := m.take(ctx, limit)
	if err != nil {
		return page, asUnavailable(err)
	}
	page.SKUs = rows
	if more {
		page.Next = encodeCursor(rows[len(rows)-1].SKU)
	}
	return page, nil
}

func checkList(prefix, cursor string, limit int) (after allocator.SKU, err error) {
	if limit < 1 || limit > MaxSKUPage {
		return "", &Invalid{Detail: fmt.Sprintf("limit must be 1 to %d", MaxSKUPage)}
	}
	if prefix != "" && !allocator.ValidSKU(allocator.SKU(prefix)) {
		return "", &Invalid{Detail: "prefix " + skuDetail}
	}
	return decodeCursor(cursor)
}

// cursorVersion begins every cursor, so that its content can change.
const cursorVersion = "1"

// encodeCursor makes a cursor of the last SKU of a page. It is opaque: users
// must not make their own.
func encodeCursor(last allocator.SKU) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorVersion + string(last)))
}

func decodeCursor(cursor string) (allocator.SKU, error) {
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	text, ok := strings.CutPrefix(string(raw), cursorVersion)
	last := allocator.SKU(text)
	if err != nil || !ok || !allocator.ValidSKU(last) || encodeCursor(last) != cursor { // base64 has several texts for the same bytes
		return "", &Invalid{Detail: "cursor is not one that an earlier page gave"}
	}
	return last, nil
}

// merge reads the anchors' lists, which are in order, as one list in order. It
// is used by one goroutine, but for fillAll's helpers.
type merge struct {
	r       *Router
	prefix  string
	chunk   int // rows asked for at a time
	sources []source
}

// source is the list of one anchor.
type source struct {
	shard allocator.ShardID
	rows  []allocator.SKUSummary // not yet taken
	after allocator.SKU          // the last row read
	end   bool                   // there are no more behind rows
}

// chunkSlack makes up for SKUs that are not spread evenly over the anchors.
const chunkSlack = 8

func newMerge(r *Router, prefix string, after allocator.SKU, limit int) *merge {
	m := &merge{r: r, prefix: prefix, chunk: min(2*limit/r.shards+chunkSlack, MaxSKUPage)}
	for shard := range r.shards {
		m.sources = append(m.sources, source{shard: allocator.ShardID(shard), after: after})
	}
	return m
}

// fillParallel bounds the anchors asked at the same time.
const fillParallel = 32

// fillAll reads the first rows of all anchors.
func (m *merge) fillAll(ctx context.Context) error {
	errs := make([]error, len(m.sources))
	slots := make(chan struct{}, fillParallel)
	var wait sync.WaitGroup
	for i := range m.sources {
		slots <- struct{}{}
		wait.Go(func() {
			errs[i] = m.fill(ctx, &m.sources[i])
			<-slots
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fill reads the next rows of one anchor.
func (m *merge) fill(ctx context.Context, s *source) error {
	rows, err := m.r.dispatch.SKUs(ctx, shardrpc.SKUsRequest{Shard: s.shard, Prefix: m.prefix, After: s.after, Limit: m.chunk})
	if err != nil {
		return err
	}
	s.rows, s.end = rows, len(rows) < m.chunk
	if len(rows) > 0 {
		s.after = rows[len(rows)-1].SKU
	}
	return nil
}

// take takes the next rows of the merged list, and tells whether there are more.
func (m *merge) take(ctx context.Context, limit int) (rows []allocator.SKUSummary, more bool, err error) {
	for len(rows) < limit {
		s := m.least()
		if s == nil {
			return rows, false, nil
		}
		rows = append(rows, s.rows[0])
		s.rows = s.rows[1:]
		if len(s.rows) == 0 && !s.end {
			if err := m.fill(ctx, s); err != nil {
				return nil, false, err
			}
		}
	}
	return rows, m.least() != nil, nil
}

// least finds the source with the first name; nil when all are empty.
func (m *merge) least() *source {
	var best *source
	for i := range m.sources {
		s := &m.sources[i]
		if len(s.rows) > 0 && (best == nil || s.rows[0].SKU < best.rows[0].SKU) {
			best = s
		}
	}
	return best
}
