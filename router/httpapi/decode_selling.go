package httpapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"stockade/allocator"
	"stockade/router"
)

// Limits of what a body may ask for; the API publishes them.
const (
	maxQuantity   = int64(allocator.MaxQuantity)
	maxTTLSeconds = int64(allocator.MaxTTL / 1000)
	maxWaitMS     = int64(router.MaxWait / time.Millisecond)
	maxBatchItems = 1000 // what a 4 MiB body holds with room to spare, and a shard does in one batch
)

// The fields of each body, as a fault names them.
const (
	lineFields    = "sku and quantity"
	reserveFields = "sku, quantity, lines, ttl_seconds, buyer_id, reference and wait_ms"
	actionFields  = "op, id, lines, ttl_seconds and idempotency_key"
)

// skuRule says what a SKU is made of.
const skuRule = "must be 1 to 64 characters of A-Z, a-z, 0-9, dot, underscore, colon and hyphen"

// fields is the set of fields an object had.
type fields uint16

// The fields that other fields depend on.
const (
	hasSKU fields = 1 << iota
	hasQuantity
	hasLines
	hasTTL
	hasKey
	hasOp
	hasID
	hasOnHand
	hasSafety
	hasDefaultTTL
	hasMaxTTL
	hasDelta
	hasReason
)

// sku reads a SKU.
func (d *document) sku() string {
	raw := d.value(jsontext.KindString, "a string")
	if raw == nil {
		return ""
	}
	text := d.unquote(raw)
	if len(text) > allocator.MaxSKULen || !allocator.ValidSKU(allocator.SKU(text)) {
		d.here(skuRule)
		return ""
	}
	return string(text)
}

// ttl reads ttl_seconds.
func (d *document) ttl() time.Duration {
	return time.Duration(d.integer(1, maxTTLSeconds)) * time.Second
}

// key reads an idempotency key that stands in a body.
func (d *document) key() string {
	raw := d.value(jsontext.KindString, "a string")
	if raw == nil {
		return ""
	}
	key := string(d.unquote(raw))
	if !validKey(key) {
		d.here(keyRule)
	}
	return key
}

// line reads one line.
func (d *document) line() (line router.Line) {
	if !d.object() {
		return line
	}
	var has fields
	for name, ok := d.member(); ok; name, ok = d.member() {
		switch string(name) {
		case "sku":
			line.SKU, has = d.sku(), has|hasSKU
		case "quantity":
			line.Quantity, has = d.integer(1, maxQuantity), has|hasQuantity
		default:
			d.unknown(lineFields)
		}
	}
	d.need(has, hasSKU, "/sku")
	d.need(has, hasQuantity, "/quantity")
	return line
}

// need notes a field that the object just read lacks.
func (d *document) need(has, wanted fields, path string) {
	if has&wanted == 0 {
		d.inside(path, "is missing")
	}
}

// lines reads 1 to MaxLines lines.
func (d *document) lines() []router.Line {
	if !d.array() {
		return nil
	}
	var lines []router.Line
	count := 0
	for ; d.element(); count++ {
		if count >= allocator.MaxLines {
			d.skip()
			continue
		}
		lines = append(lines, d.line())
	}
	if count == 0 || count > allocator.MaxLines {
		d.here("must have 1 to " + strconv.Itoa(allocator.MaxLines) + " lines; it has " + strconv.Itoa(count))
	}
	d.checkSums(lines)
	return lines
}

// checkSums checks lines of the same SKU together, because they are added up.
func (d *document) checkSums(lines []router.Line) {
	for i := range lines {
		sum := lines[i].Quantity
		for j := range i {
			if lines[j].SKU == lines[i].SKU && lines[i].SKU != "" {
				sum += lines[j].Quantity
			}
		}
		if sum > maxQuantity {
			d.inside("/"+strconv.Itoa(i)+"/quantity", "lines of one SKU are added up, and with this one it is more than "+
				strconv.FormatInt(maxQuantity, 10))
			return
		}
	}
}

// reserve reads the body of a reservation. With a key it may carry an
// idempotency_key, as the items of a batch do.
func (d *document) reserve(withKey bool) (req router.ReserveRequest) {
	if !d.object() {
		return req
	}
	var has fields
	var single router.Line
	for name, ok := d.member(); ok; name, ok = d.member() {
		has |= d.reserveField(string(name), withKey, &req, &single)
	}
	d.checkReserve(has)
	if has&hasLines == 0 {
		req.Lines = []router.Line{single}
	}
	return req
}

// reserveField reads one field of a reservation.
func (d *document) reserveField(name string, withKey bool, req *router.ReserveRequest, single *router.Line) fields {
	switch name {
	case "sku":
		single.SKU = d.sku()
		return hasSKU
	case "quantity":
		single.Quantity = d.integer(1, maxQuantity)
		return hasQuantity
	case "lines":
		req.Lines = d.lines()
		return hasLines
	case "ttl_seconds":
		req.TTL = d.ttl()
	case "buyer_id":
		req.BuyerID = d.str(1, allocator.MaxBuyerLen)
	case "reference":
		req.Reference = d.str(0, allocator.MaxReferenceLen)
	case "wait_ms":
		req.Wait = time.Duration(d.integer(0, maxWaitMS)) * time.Millisecond
	case "idempotency_key":
		if !withKey {
			d.here("belongs in the header Idempotency-Key here")
			d.skip()
			break
		}
		req.IdempotencyKey = d.key()
	default:
		d.unknown(reserveFields)
	}
	return 0
}

// checkReserve checks that a reservation names its units exactly once.
func (d *document) checkReserve(has fields) {
	switch {
	case has&hasLines != 0 && has&(hasSKU|hasQuantity) != 0:
		d.inside("/lines", "give sku and quantity, or lines, not both")
	case has&(hasLines|hasSKU|hasQuantity) == 0:
		d.here("give sku and quantity, or lines")
	case has&hasLines == 0:
		d.need(has, hasSKU, "/sku")
		d.need(has, hasQuantity, "/quantity")
	}
}

// onlyLines reads a body that has lines or nothing.
func (d *document) onlyLines() (lines []router.Line) {
	if !d.object() {
		return nil
	}
	for name, ok := d.member(); ok; name, ok = d.member() {
		if string(name) != "lines" {
			d.unknown("lines")
			continue
		}
		lines = d.lines()
	}
	return lines
}

// extend reads the body of an extension.
func (d *document) extend() (ttl time.Duration) {
	if !d.object() {
		return 0
	}
	var has fields
	for name, ok := d.member(); ok; name, ok = d.member() {
		if string(name) != "ttl_seconds" {
			d.unknown("ttl_seconds")
			continue
		}
		ttl, has = d.ttl(), hasTTL
	}
	d.need(has, hasTTL, "/ttl_seconds")
	return ttl
}

// nothing reads an object without fields.
func (d *document) nothing() {
	if !d.object() {
		return
	}
	for _, ok := d.member(); ok; _, ok = d.member() {
		d.here("unknown field; no fields are known here")
		d.skip()
	}
}

// action is one item of a batch of actions.
type action struct {
	router.Action
	missing error // the id can't be read
}

// ops are the actions by the name they have in a body.
var ops = map[string]router.ActionOp{
	"confirm": router.ActionConfirm,
	"cancel":  router.ActionCancel,
	"extend":  router.ActionExtend,
	"return":  router.ActionReturn,
}

// action reads one action.
func (d *document) action() (a action) {
	if !d.object() {
		return a
	}
	var has fields
	for name, ok := d.member(); ok; name, ok = d.member() {
		has |= d.actionField(string(name), &a)
	}
	d.need(has, hasOp, "/op")
	d.need(has, hasID, "/id")
	d.checkAction(a.Op, has)
	return a
}

// actionField reads one field of an action.
func (d *document) actionField(name string, a *action) fields {
	switch name {
	case "op":
		a.Op = ops[d.oneOf("confirm", "cancel", "extend", "return")]
		return hasOp
	case "id":
		a.ID, a.missing = parseID(d.ids, d.str(1, allocator.MaxReferenceLen))
		return hasID
	case "lines":
		a.Lines = d.lines()
		return hasLines
	case "ttl_seconds":
		a.TTL = d.ttl()
		return hasTTL
	case "idempotency_key":
		a.Key = d.key()
		return hasKey
	default:
		d.unknown(actionFields)
		return 0
	}
}

// checkAction checks which fields go with which action.
func (d *document) checkAction(op router.ActionOp, has fields) {
	if op == 0 {
		return
	}
	if op == router.ActionExtend {
		d.need(has, hasTTL, "/ttl_seconds")
	} else if has&hasTTL != 0 {
		d.inside("/ttl_seconds", "goes only with op extend")
	}
	if has&hasLines != 0 && op != router.ActionConfirm && op != router.ActionReturn {
		d.inside("/lines", "goes only with op confirm or return")
	}
	if has&hasKey != 0 && op != router.ActionReturn {
		d.inside("/idempotency_key", "goes only with op return; the other actions are repeatable as they are")
	}
}

// oneOf reads a string that is one of a few words; anything else gives "".
func (d *document) oneOf(words ...string) string {
	raw := d.value(jsontext.KindString, "a string")
	if raw == nil {
		return ""
	}
	text := d.unquote(raw)
	for _, word := range words {
		if string(text) == word {
			return word
		}
	}
	d.here("must be one of: " + strings.Join(words, ", "))
	return ""
}
