package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
)

// The operations of the administration.
const (
	opPutSKU  = "put_sku"
	opSKU     = "get_sku"
	opSKUs    = "list_skus"
	opRestock = "restock"
	opAdjust  = "adjust"
	opPause   = "pause"
	opResume  = "resume"
	opAudit   = "audit"
	opCluster = "cluster"
)

// readBack is how long reading a SKU after a change may take. The change is done
// by then: its answer must not hang on a shard that can't be read.
const readBack = 500 * time.Millisecond

// administration are the operations of the ops port on SKUs and the cluster.
type administration struct{ router Administrator }

// routes lists them.
func (a *administration) routes() []route {
	const sku = "/v1/skus/{sku}"
	return []route{
		{method: "GET", path: "/v1/skus", op: opSKUs, query: []string{"prefix", "limit", "cursor", "with"}, handle: a.list},
		{method: "GET", path: sku, op: opSKU, query: []string{"consistency"}, handle: a.get},
		{method: "PUT", path: sku, op: opPutSKU, handle: a.put},
		{method: "POST", path: sku + "/restock", op: opRestock, handle: a.restock},
		{method: "POST", path: sku + "/adjust", op: opAdjust, handle: a.adjust},
		{method: "POST", path: sku + "/pause", op: opPause, handle: func(c *call) error { return a.setPaused(c, true) }},
		{method: "POST", path: sku + "/resume", op: opResume, handle: func(c *call) error { return a.setPaused(c, false) }},
		{method: "GET", path: sku + "/availability", op: opAvailability, query: []string{"consistency"}, handle: func(c *call) error { return availability(c, a.router.Availability) }},
		{method: "GET", path: sku + "/audit", op: opAudit, handle: a.audit},
		{method: "GET", path: "/v1/cluster", op: opCluster, handle: a.cluster},
	}
}

// put is PUT /v1/skus/{sku}.
func (a *administration) put(c *call) error {
	sku, key, ifMatch, ifNoneMatch := c.pathSKU(), c.key(), c.ifMatch(), c.ifNoneMatch()
	if ifMatch != 0 && ifNoneMatch {
		c.badHeader(headerIfNoneMatch, "can't be combined with If-Match")
	}
	var req router.PutSKURequest
	if c.open(maxBody, false) {
		req = c.doc.putSKU()
		c.doc.end()
	}
	if err := c.faults(); err != nil {
		return err
	}
	req.SKU, req.Key, req.IfMatch, req.IfNoneMatch = sku, key, ifMatch, ifNoneMatch
	c.keyed = key != ""
	res, err := a.router.PutSKU(c.ctx, req)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if res.Created {
		status = http.StatusCreated
	}
	a.changed(c, status, sku, router.StockResult{Version: res.Version, Replayed: res.Replayed, Effect: res.Effect})
	return nil
}

// changed answers with the SKU after a change. When it can't be read the change
// is done all the same, so the answer is then only what is known of it.
func (a *administration) changed(c *call, status int, sku string, res router.StockResult) {
	if res.Replayed {
		c.w.Header()[headerReplayed] = replayedHeader
	}
	ctx, cancel := context.WithTimeout(c.ctx, readBack)
	defer cancel()
	view, err := a.router.SKU(ctx, sku, true)
	if err != nil {
		c.etag(res.Version)
		c.document(status, api.SKUVersion{SKU: sku, Version: res.Version, Effect: effectView(&res.Effect)})
		return
	}
	c.etag(view.Policy.Version)
	answer := skuView(&view)
	answer.Effect = effectView(&res.Effect)
	c.document(status, answer)
}

// etag sets the ETag: the version of the SKU's policy in quotes.
func (c *call) etag(version uint64) {
	c.w.Header()["Etag"] = []string{`"` + strconv.FormatUint(version, 10) + `"`}
}

// get is GET /v1/skus/{sku}.
func (a *administration) get(c *call) error {
	sku, strong := c.pathSKU(), c.strong()
	if err := c.faults(); err != nil {
		return err
	}
	view, err := a.router.SKU(c.ctx, sku, strong)
	if err != nil {
		return err
	}
	c.etag(view.Policy.Version)
	c.document(http.StatusOK, skuView(&view))
	return nil
}

// list is GET /v1/skus.
func (a *administration) list(c *call) error {
	prefix, limit, cursor, available := c.prefix(), c.limit(), c.query.Get("cursor"), c.withAvailable()
	if err := c.faults(); err != nil {
		return err
	}
	page, err := a.router.SKUs(c.ctx, prefix, cursor, limit)
	var invalid *router.Invalid
	if errors.As(err, &invalid) { // the router knows only what a cursor is
		return &badRequest{errs: []api.FieldError{{Parameter: "cursor", Detail: "must be the next_cursor of an earlier page"}}}
	}
	if err != nil {
		return err
	}
	view := pageView(&page)
	if available {
		if err := a.addAvailable(c.ctx, &view); err != nil {
			return err
		}
	}
	c.document(http.StatusOK, view)
	return nil
}

// addAvailable completes a page, whose rows come from the anchors, by what only
// all shards together know.
func (a *administration) addAvailable(ctx context.Context, page *api.SKUPage) error {
	skus := make([]allocator.SKU, len(page.Data))
	for i := range page.Data {
		skus[i] = allocator.SKU(page.Data[i].SKU)
	}
	available, err := a.router.AvailableOf(ctx, skus)
	if err != nil {
		return err
	}
	for i, sku := range skus {
		if n, ok := available[sku]; ok {
			page.Data[i].Available = &n
		}
	}
	return nil
}

// restock is POST /v1/skus/{sku}/restock.
func (a *administration) restock(c *call) error {
	sku, key := c.pathSKU(), c.requiredKey()
	var body deposit
	if c.open(maxBody, false) {
		body = c.doc.restock()
		c.doc.end()
	}
	if err := c.faults(); err != nil {
		return err
	}
	c.keyed = true
	res, err := a.router.Restock(c.ctx, sku, body.quantity, body.reference, key)
	if err != nil {
		return err
	}
	a.changed(c, http.StatusOK, sku, res)
	return nil
}

// adjust is POST /v1/skus/{sku}/adjust.
func (a *administration) adjust(c *call) error {
	sku, key := c.pathSKU(), c.key()
	var body correction
	if c.open(maxBody, false) {
		body = c.doc.adjust()
		c.doc.end()
	}
	if err := c.faults(); err != nil {
		return err
	}
	c.keyed = key != ""
	res, err := a.router.Adjust(c.ctx, sku, body.delta, body.reason, key)
	if err != nil {
		return err
	}
	a.changed(c, http.StatusOK, sku, res)
	return nil
}

// setPaused is POST /v1/skus/{sku}/pause and /resume.
func (a *administration) setPaused(c *call, paused bool) error {
	sku := c.pathSKU()
	c.key() // not needed; but one that is given must be well formed
	c.noBody()
	if err := c.faults(); err != nil {
		return err
	}
	c.keyed = true
	res, err := a.router.SetPaused(c.ctx, sku, paused)
	if err != nil {
		return err
	}
	a.changed(c, http.StatusOK, sku, res)
	return nil
}

// audit is GET /v1/skus/{sku}/audit.
func (a *administration) audit(c *call) error {
	sku := c.pathSKU()
	if err := c.faults(); err != nil {
		return err
	}
	audit, err := a.router.Audit(c.ctx, sku)
	if err != nil {
		return err
	}
	c.document(http.StatusOK, auditView(&audit))
	return nil
}

// cluster is GET /v1/cluster.
func (a *administration) cluster(c *call) error {
	if err := c.faults(); err != nil {
		return err
	}
	view, err := a.router.Cluster(c.ctx)
	if err != nil {
		return err
	}
	c.document(http.StatusOK, clusterView(&view))
	return nil
}
