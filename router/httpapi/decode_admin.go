package httpapi

import (
	"bytes"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
)

// The fields of the administration's bodies, as a fault names them.
const (
	putFields = "on_hand, safety_stock, max_per_reservation, max_per_buyer, default_ttl_seconds, max_ttl_seconds, " +
		"late_confirm, sale_starts_at, sale_ends_at, watch and metadata"
	restockFields = "quantity and reference"
	adjustFields  = "delta and reason"
)

// maxTime is the last moment that RFC 3339 can write: the end of the year 9999.
const maxTime = allocator.Millis(253402300799999)

// putSKU reads the body that creates a SKU or replaces its policy.
func (d *document) putSKU() (req router.PutSKURequest) {
	req.Policy.DefaultTTL, req.Policy.MaxTTL = allocator.DefaultTTL, allocator.MaxTTL
	if !d.object() {
		return req
	}
	var has fields
	for name, ok := d.member(); ok; name, ok = d.member() {
		has |= d.putField(string(name), &req)
	}
	d.checkPut(has, &req)
	return req
}

// putField reads one field of a PUT.
func (d *document) putField(name string, req *router.PutSKURequest) fields {
	p := &req.Policy
	switch name {
	case "on_hand":
		units := d.integer(0, maxQuantity)
		req.OnHand = &units
		return hasOnHand
	case "safety_stock":
		p.SafetyStock = allocator.Quantity(d.integer(0, maxQuantity))
		return hasSafety
	case "max_per_reservation":
		p.MaxPerReservation = allocator.Quantity(d.integer(0, maxQuantity))
	case "max_per_buyer":
		p.MaxPerBuyer = allocator.Quantity(d.integer(0, maxQuantity))
	case "default_ttl_seconds":
		p.DefaultTTL = millis(d.ttl())
		return hasDefaultTTL
	case "max_ttl_seconds":
		p.MaxTTL = millis(d.ttl())
		return hasMaxTTL
	default:
		d.putSaleField(name, req)
	}
	return 0
}

// putSaleField reads the fields of a PUT that no other field depends on.
func (d *document) putSaleField(name string, req *router.PutSKURequest) {
	p := &req.Policy
	switch name {
	case "late_confirm":
		if d.oneOf(string(api.LateConfirmRetake), string(api.LateConfirmReject)) == string(api.LateConfirmReject) {
			p.LateConfirm = allocator.LateConfirmReject
		}
	case "sale_starts_at":
		p.SaleStarts = d.time()
	case "sale_ends_at":
		p.SaleEnds = d.time()
	case "watch":
		p.Watch = d.boolean()
	case "metadata":
		req.Metadata = d.metadata()
	default:
		d.unknown(putFields)
	}
}

// checkPut checks the fields of a PUT against each other.
func (d *document) checkPut(has fields, req *router.PutSKURequest) {
	p := &req.Policy
	if has&hasMaxTTL != 0 && has&hasDefaultTTL == 0 {
		p.DefaultTTL = min(p.DefaultTTL, p.MaxTTL)
	}
	if p.DefaultTTL > p.MaxTTL {
		d.inside("/default_ttl_seconds", "must not be more than max_ttl_seconds, which is "+
			strconv.FormatInt(int64(p.MaxTTL/1000), 10))
	}
	if has&hasOnHand != 0 && int64(p.SafetyStock) > *req.OnHand {
		d.inside("/safety_stock", "must not be more than on_hand, which is "+strconv.FormatInt(*req.OnHand, 10))
	}
	if p.SaleStarts != 0 && p.SaleEnds != 0 && p.SaleStarts >= p.SaleEnds {
		d.inside("/sale_ends_at", "must be later than sale_starts_at")
	}
}

// millis converts a span to log time.
func millis(span time.Duration) allocator.Millis { return allocator.Millis(span / time.Millisecond) }

// time reads an RFC 3339 time, cutting what is finer than a millisecond.
func (d *document) time() allocator.Millis {
	raw := d.value(jsontext.KindString, "a time")
	if raw == nil {
		return 0
	}
	var t api.Time
	err := t.UnmarshalText(d.unquote(raw))
	if err != nil || t <= 0 || allocator.Millis(t) > maxTime {
		d.here("must be a time after 1970 as in RFC 3339, such as 2026-11-27T18:00:00.000Z")
		return 0
	}
	return allocator.Millis(t)
}

// metadata reads a JSON object and brings it into canonical form (RFC 8785),
// except that numbers stay as they are written: a large id must not lose digits.
func (d *document) metadata() []byte {
	raw := d.value(jsontext.KindBeginObject, "an object")
	if raw == nil {
		return nil
	}
	canonical := jsontext.Value(bytes.Clone(raw))
	err := canonical.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false))
	if err != nil {
		d.here("can't be brought into canonical form: " + err.Error())
		return nil
	}
	if len(canonical) > allocator.MaxMetadataLen {
		d.here("must be at most " + strconv.Itoa(allocator.MaxMetadataLen) + " bytes in canonical form; it has " +
			strconv.Itoa(len(canonical)))
		return nil
	}
	return canonical
}

// deposit is the body of a restock.
type deposit struct {
	quantity  int64
	reference string
}

// restock reads the body of a restock.
func (d *document) restock() (r deposit) {
	if !d.object() {
		return r
	}
	var has fields
	for name, ok := d.member(); ok; name, ok = d.member() {
		switch string(name) {
		case "quantity":
			r.quantity, has = d.integer(1, maxQuantity), has|hasQuantity
		case "reference":
			r.reference = d.str(0, allocator.MaxReferenceLen)
		default:
			d.unknown(restockFields)
		}
	}
	d.need(has, hasQuantity, "/quantity")
	return r
}

// correction is the body of an adjustment.
type correction struct {
	delta  int64
	reason string
}

// adjust reads the body of an adjustment.
func (d *document) adjust() (a correction) {
	if !d.object() {
		return a
	}
	var has fields
	for name, ok := d.member(); ok; name, ok = d.member() {
		switch string(name) {
		case "delta":
			a.delta, has = d.delta(), has|hasDelta
		case "reason":
			a.reason, has = d.str(1, allocator.MaxReferenceLen), has|hasReason
		default:
			d.unknown(adjustFields)
		}
	}
	d.need(has, hasDelta, "/delta")
	d.need(has, hasReason, "/reason")
	return a
}

// delta reads a number of units to add or take away.
func (d *document) delta() int64 {
	delta := d.integer(-maxQuantity, maxQuantity)
	if delta == 0 {
		d.here("must not be 0")
	}
	return delta
}
