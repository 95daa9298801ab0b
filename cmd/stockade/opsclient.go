package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// opsTimeout is a bit longer than the longest deadline that the API takes,
	// so that the server's own answer is seen and not our impatience.
	opsTimeout = 35 * time.Second
	// maxOpsAnswer bounds an answer: the largest is a page of 1,000 SKUs with a
	// few hundred bytes each.
	maxOpsAnswer = 16 << 20
)

// opsClient talks to the administration API.
type opsClient struct {
	base string
	http *http.Client
}

func newOpsClient(base string) *opsClient {
	return &opsClient{base: strings.TrimRight(base, "/"), http: &http.Client{Timeout: opsTimeout}}
}

// opsRequest is one call. Body is encoded as JSON unless it is nil.
type opsRequest struct {
	method string
	path   string
	query  url.Values
	header map[string]string
	body   any
}

// do sends a request and gives the answer's body, or the problem as an error.
func (c *opsClient) do(ctx context.Context, r opsRequest) ([]byte, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("can't reach the administration API at %s (is it running? --ops-url says where): %w", c.base, err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxOpsAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	if answer.StatusCode/100 != 2 {
		return nil, problemError(answer.Status, body)
	}
	return body, nil
}

func (c *opsClient) newRequest(ctx context.Context, r opsRequest) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		encoded, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(encoded)
	}
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, v := range r.header {
		if v != "" {
			req.Header.Set(name, v)
		}
	}
	return req, nil
}

// newKey makes an idempotency key for a command that was given none, so that the
// client library's own repeats of a request act once.
func newKey() string { return rand.Text() }
