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
	return c, o.do(ctx, http.MethodGet, "/v1/cluster", "", nil, &c)
}

// create makes the SKUs of a run.
func (o *opsPort) create(ctx context.Context, skus []string, units int64) error {
	return each(len(skus), func(i int) error {
		return o.do(ctx, http.MethodPut, skuPath(skus[i], ""), "", api.PutSKURequest{OnHand: &units}, nil)
	})
}

// restock adds units to the SKUs of a run. It is repeatable.
func (o *opsPort) restock(ctx context.Context, skus []string, units int64, key string) error {
	return each(len(skus), func(i int) error {
		return o.do(ctx, http.MethodPost, skuPath(skus[i], "/restock"), key, api.RestockRequest{Quantity: units, Reference: "benchmark"}, nil)
	})
}

// audits gives the audit of each SKU.
func (o *opsPort) audits(ctx context.Context, skus []string) ([]api.Audit, error) {
	all := make([]api.Audit, len(skus))
	return all, each(len(skus), func(i int) error {
		return o.do(ctx, http.MethodGet, skuPath(skus[i], "/audit"), "", nil, &all[i])
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

// do sends a request, and reads the answer into a document unless that is nil.
func (o *opsPort) do(ctx context.Context, method, path, key string, body, into any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	if body == nil {
		encoded = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, o.base+path, bytes.NewReader(encoded))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := o.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, errors.Unwrap(err))
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxDocument))
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if res.StatusCode/100 != 2 {
		var p api.Problem
		_ = json.Unmarshal(answer, &p) // else the status has to do
		return fmt.Errorf("%s %s: %s %s %s", method, path, res.Status, p.Code, p.Detail)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}
