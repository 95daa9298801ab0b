package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"stockade/router/api"
)

// opsPort is the administration of the cluster under load: what is needed before and
// after.
type opsPort struct {
	base string
	http *http.Client
}

const (
	opsTimeout  = 30 * time.Second
	opsParallel = 16       // requests at a time, for runs with many SKUs
	maxDocument = 16 << 20 // of an answer
)

func newOpsPort(base string) *opsPort {
	return &opsPort{base: base, http: &http.Client{Timeout: opsTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: opsParallel}}}
}

func (o *opsPort) close() { o.http.CloseIdleConnections() }

// cluster asks what the cluster is.
func (o *opsPort) cluster(ctx context.Context) (c api.Cluster, err error) {
	return c, o.do(ctx, call{method: http.MethodGet, path: "/v1/cluster", into: &c})
}

// create makes the SKUs of a run.
func (o *opsPort) create(ctx context.Context, skus []string, units int64) error {
	return each(len(skus), func(i int) error {
		return o.do(ctx, call{method: http.MethodPut, path: skuPath(skus[i], ""), body: api.PutSKURequest{OnHand: &units}})
	})
}

// restock adds units to the SKUs of a run. It is repeatable.
func (o *opsPort) restock(ctx context.Context, skus []string, units int64, key string) error {
	return each(len(skus), func(i int) error {
		return o.do(ctx, call{
			method: http.MethodPost, path: skuPath(skus[i], "/restock"), key: key, body: api.RestockRequest{Quantity: units, Reference: "benchmark"},
		})
	})
}

// audits gives the audit of each SKU.
func (o *opsPort) audits(ctx context.Context, skus []string) ([]api.Audit, error) {
	all := make([]api.Audit, len(skus))
	return all, each(len(skus), func(i int) error {
		return o.do(ctx, call{method: http.MethodGet, path: skuPath(skus[i], "/audit"), into: &all[i]})
	})
}

func skuPath(sku, more string) string { return "/v1/skus/" + url.PathEscape(sku) + more }

// each calls f for the numbers below n, some at a time, and gives the first error.
func each(n int, f func(i int) error) error {
	var mu sync.Mutex
	var wait sync.WaitGroup
	var first error
	places := make(chan struct{}, opsParallel)
	for i := range n {
		places <- struct{}{}
		wait.Go(func() {
			defer func() { <-places }()
			if err := f(i); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
		})
	}
	wait.Wait()
	return first
}

// call is one request of the ops port.
type call struct {
	method, path string
	key          string // "": none
	body         any    // nil: none
	into         any    // what the answer is read into; nil: it is not
}

// do makes a call.
func (o *opsPort) do(ctx context.Context, c call) error {
	answer, err := o.send(ctx, c)
	if err == nil && c.into != nil {
		err = json.Unmarshal(answer, c.into)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	return nil
}

// send gives the body of the answer to a call.
func (o *opsPort) send(ctx context.Context, c call) ([]byte, error) {
	var body []byte
	if c.body != nil {
		encoded, err := json.Marshal(c.body)
		if err != nil {
			return nil, err
		}
		body = encoded
	}
	req, err := http.NewRequestWithContext(ctx, c.method, o.base+c.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("Idempotency-Key", c.key)
	}
	res, err := o.http.Do(req)
	if err != nil {
		return nil, errors.Unwrap(err) // the rest of it is said by the caller
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxDocument))
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		var p api.Problem
		_ = json.Unmarshal(answer, &p) // else the status has to do
		return nil, fmt.Errorf("%s %s %s", res.Status, p.Code, p.Detail)
	}
	return answer, nil
}
