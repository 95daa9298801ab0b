package httpapi

import (
	"strconv"

	"stockade/router/api"
)

// item is one item of a batch, or what is wrong with it. A faulty item is
// answered by itself: it must not spoil the others, which may come from other
// callers of the same client.
type item[T any] struct {
	value T
	errs  []api.FieldError
}

// decodeBatch reads a body of the form {field: [item, …]}.
func decodeBatch[T any](d *document, field string, read func(*document) T) (items []item[T]) {
	if !d.object() {
		return nil
	}
	seen := false
	for name, ok := d.member(); ok; name, ok = d.member() {
		if string(name) != field {
			d.unknown(field)
			continue
		}
		items, seen = decodeItems(d, read), true
	}
	if !seen {
		d.inside("/"+field, "is missing")
	}
	return items
}

// usualItem is how many bytes an item has in a request, roughly: by it memory is made
// for so many items as there may be.
const usualItem = 80

// decodeItems reads 1 to maxBatchItems items.
func decodeItems[T any](d *document, read func(*document) T) (items []item[T]) {
	if !d.array() {
		return nil
	}
	items = make([]item[T], 0, min(maxBatchItems, 1+d.rest()/usualItem))
	count := 0
	for ; d.element(); count++ {
		if count >= maxBatchItems {
			d.skip()
			continue
		}
		items = append(items, decodeItem(d, read))
	}
	if count == 0 || count > maxBatchItems {
		d.here("must have 1 to " + strconv.Itoa(maxBatchItems) + " items; it has " + strconv.Itoa(count))
	}
	return items
}

// decodeItem reads one item and sets its faults apart from the batch's. Broken
// JSON is the fault of the batch.
func decodeItem[T any](d *document, read func(*document) T) item[T] {
	outer := d.errs
	d.errs = nil
	it := item[T]{value: read(d)}
	if d.broken {
		d.errs = append(outer, d.errs...)
		return it
	}
	it.errs, d.errs = d.errs, outer
	return it
}
