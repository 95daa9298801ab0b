package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"stockade/allocator"
	"stockade/router/api"
	"stockade/shard/shardrpc"
)

// Limits and defaults of headers and parameters.
const (
	maxKeyLen       = 128                     // characters of an idempotency key: any UUID or ULID with a prefix fits
	maxRequestIDLen = 128                     // characters of a request id taken over from the client
	defaultTimeout  = shardrpc.DefaultTimeout // without X-Timeout-Ms; waiting in line comes on top
	maxTimeout      = 30 * time.Second        // a longer wait serves nobody and holds a place in the queues
	defaultPage     = 100                     // SKUs on a page of the list
	maxPage         = 1000                    // SKUs on a page, so that an answer stays below 1 MiB
)

// keyRule says what an idempotency key is made of.
const keyRule = "must be 1 to 128 visible ASCII characters, without spaces"

// The request headers that have a meaning here, in canonical form.
const (
	headerKey         = "Idempotency-Key"
	headerTimeout     = "X-Timeout-Ms"
	headerRequestID   = "Request-Id"
	headerIfMatch     = "If-Match"
	headerIfNoneMatch = "If-None-Match"
	headerReplayed    = "Idempotent-Replayed"
	headerContentType = "Content-Type"
)

// validKey tells whether s is 1 to maxKeyLen visible ASCII characters.
func validKey(s string) bool {
	return len(s) >= 1 && len(s) <= maxKeyLen && visible(s)
}

// visible tells whether s has visible ASCII characters only.
func visible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// parseKey reads the value of an Idempotency-Key header: bare, or quoted as a
// string of structured fields (RFC 9651), where \" and \\ stand for " and \.
// Both forms give the same key.
func parseKey(value string) (key string, ok bool) {
	if strings.HasPrefix(value, `"`) {
		if value, ok = unquoteKey(value); !ok {
			return "", false
		}
	}
	return value, validKey(value)
}

// unquoteKey gives the text of a quoted string that ends where value ends.
func unquoteKey(value string) (string, bool) {
	if len(value) < 2 || value[len(value)-1] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner, strings.IndexByte(inner, '"') < 0
	}
	text := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '"':
			return "", false
		case '\\':
			if i++; i == len(inner) || inner[i] != '"' && inner[i] != '\\' {
				return "", false
			}
		}
		text = append(text, inner[i])
	}
	return string(text), true
}

// badHeader notes what is wrong with a request header.
func (c *call) badHeader(name, detail string) {
	c.errs = append(c.errs, api.FieldError{Header: name, Detail: detail})
}

// badParam notes what is wrong with a path or query parameter. The name of one that
// does not exist is the client's, and may not be text.
func (c *call) badParam(name, detail string) {
	c.errs = append(c.errs, api.FieldError{Parameter: strings.ToValidUTF8(name, "\uFFFD"), Detail: detail})
}

// header gives the only value of a request header. Several values are a fault.
func (c *call) header(name string) (value string, given bool) {
	values := c.r.Header[name]
	if len(values) > 1 {
		c.badHeader(name, "is given "+strconv.Itoa(len(values))+" times")
		return "", false
	}
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

// key reads the Idempotency-Key header; "" when there is none.
func (c *call) key() string {
	value, given := c.header(headerKey)
	if !given {
		return ""
	}
	key, ok := parseKey(value)
	if !ok {
		c.badHeader(headerKey, keyRule+", bare or as a quoted string")
	}
	return key
}

// requiredKey is key where a request without one could not be repeated.
func (c *call) requiredKey() string {
	if len(c.r.Header[headerKey]) == 0 {
		c.badHeader(headerKey, "is required here: without it a repeated request would count twice")
	}
	return c.key()
}

// noKey refuses an Idempotency-Key on a batch, where it would promise something
// that is not kept.
func (c *call) noKey(field string) {
	if len(c.r.Header[headerKey]) != 0 {
		c.badHeader(headerKey, "has no meaning for a batch: give each item its own "+field)
	}
}

// timeout reads X-Timeout-Ms, or gives the time of a request that has none.
func (c *call) timeout() (timeout time.Duration, given bool) {
	value, given := c.header(headerTimeout)
	if !given {
		return defaultTimeout, false
	}
	n, err := strconv.ParseUint(value, 10, 32)
	limit := uint64(maxTimeout / time.Millisecond)
	if err != nil || n < 1 || n > limit {
		c.badHeader(headerTimeout, "must be a whole number of milliseconds from 1 to "+strconv.FormatUint(limit, 10))
		return defaultTimeout, true
	}
	return time.Duration(n) * time.Millisecond, true
}

// ifMatch reads If-Match; 0 when there is none.
func (c *call) ifMatch() uint64 {
	value, given := c.header(headerIfMatch)
	if !given {
		return 0
	}
	tag, _ := strings.CutPrefix(value, `"`)
	tag, closed := strings.CutSuffix(tag, `"`)
	version, err := strconv.ParseUint(tag, 10, 64)
	if err != nil || version == 0 || !closed || value[0] != '"' {
		c.badHeader(headerIfMatch, `must be one version in quotes as in the ETag, such as "3"`)
	}
	return version
}

// ifNoneMatch reads If-None-Match, which may only be *.
func (c *call) ifNoneMatch() bool {
	value, given := c.header(headerIfNoneMatch)
	if given && value != "*" {
		c.badHeader(headerIfNoneMatch, "may only be * here, which asks to create and not to replace")
	}
	return given
}

// parseQuery reads the query, which may hold the route's parameters only, each once.
func (c *call) parseQuery() {
	if c.r.URL.RawQuery == "" {
		return
	}
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		c.badParam("query", "can't be read: "+err.Error())
	}
	c.query = query
	for name, values := range query {
		switch {
		case !slices.Contains(c.route.query, name):
			c.badParam(name, unknownParam(c.route.query))
		case len(values) > 1:
			c.badParam(name, "is given "+strconv.Itoa(len(values))+" times")
		}
	}
	slices.SortStableFunc(c.errs, func(a, b api.FieldError) int { return strings.Compare(a.Parameter, b.Parameter) })
}

// unknownParam says which parameters there are instead.
func unknownParam(known []string) string {
	if len(known) == 0 {
		return "unknown parameter; none is known here"
	}
	return "unknown parameter; the parameters here are " + strings.Join(known, ", ")
}

// strong reads the parameter consistency.
func (c *call) strong() bool {
	value := c.query.Get("consistency")
	if value != "strong" && c.query.Has("consistency") {
		c.badParam("consistency", "must be strong; leave it out to read what is known without asking")
	}
	return value == "strong"
}

// withAvailable reads the parameter with: what a list has beside what the
// anchors know.
func (c *call) withAvailable() bool {
	value := c.query.Get("with")
	if value != "available" && c.query.Has("with") {
		c.badParam("with", "must be available; leave it out to ask for nothing more")
	}
	return value == "available"
}

// limit reads the parameter limit.
func (c *call) limit() int {
	if !c.query.Has("limit") {
		return defaultPage
	}
	n, err := strconv.Atoi(c.query.Get("limit"))
	if err != nil || n < 1 || n > maxPage {
		c.badParam("limit", "must be from 1 to "+strconv.Itoa(maxPage))
	}
	return n
}

// prefix reads the parameter prefix: the beginning of a SKU.
func (c *call) prefix() string {
	prefix := c.query.Get("prefix")
	if prefix != "" && !allocator.ValidSKU(allocator.SKU(prefix)) {
		c.badParam("prefix", skuRule)
	}
	return prefix
}

// pathSKU reads the SKU in the path.
func (c *call) pathSKU() string {
	if !allocator.ValidSKU(allocator.SKU(c.arg)) {
		c.badParam("sku", skuRule)
	}
	return c.arg
}

// parseID reads a reservation id. It has a checksum: an id that can't be read
// names no reservation of this cluster.
func parseID(ids allocator.IDMark, text string) (allocator.ReservationID, error) {
	id, err := ids.Parse(text)
	if err != nil {
		return id, &unknownID{id: text}
	}
	return id, nil
}

// RequestID takes over the client's request id when it is sane, else makes one.
func RequestID(r *http.Request) string {
	if ids := r.Header[headerRequestID]; len(ids) == 1 && saneID(ids[0]) {
		return ids[0]
	}
	return newRequestID()
}

// saneID tells whether an id may be written into headers, logs and shells.
func saneID(id string) bool {
	if id == "" || len(id) > maxRequestIDLen {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		digit := c >= '0' && c <= '9'
		if !letter && !digit && strings.IndexByte("-_.:/+=", c) < 0 {
			return false
		}
	}
	return true
}
