package router

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"stockade/allocator"
)

// Line is one SKU with a quantity, as the client sent it.
type Line struct {
	SKU      string
	Quantity int64
}

// mergeLines adds up the lines of the same SKU and sorts them, as commands want
// them. The error is an *Invalid.
func mergeLines(lines []Line) ([]allocator.Line, error) {
	merged := make([]allocator.Line, 0, len(lines))
	for i, l := range lines {
		line, err := checkLine(i, l)
		if err != nil {
			return nil, err
		}
		merged = append(merged, line)
	}
	slices.SortStableFunc(merged, func(a, b allocator.Line) int { return cmp.Compare(a.SKU, b.SKU) })
	merged, err := addUp(merged)
	if err == nil && len(merged) > allocator.MaxLines {
		err = &Invalid{Pointer: "/lines", Detail: fmt.Sprintf("must have at most %d different SKUs", allocator.MaxLines)}
	}
	return merged, err
}

func checkLine(i int, l Line) (allocator.Line, error) {
	line := allocator.Line{SKU: allocator.SKU(l.SKU), Quantity: allocator.Quantity(l.Quantity)}
	switch {
	case !allocator.ValidSKU(line.SKU):
		return line, &Invalid{Pointer: fmt.Sprintf("/lines/%d/sku", i), Detail: skuDetail}
	case line.Quantity < 1 || line.Quantity > allocator.MaxQuantity:
		return line, &Invalid{Pointer: fmt.Sprintf("/lines/%d/quantity", i), Detail: quantityDetail}
	}
	return line, nil
}

// addUp merges neighbours of the same SKU, in place. No sum can overflow: each
// is checked before the next quantity, which is small, comes on top.
func addUp(sorted []allocator.Line) ([]allocator.Line, error) {
	out := sorted[:0]
	for _, l := range sorted {
		last := len(out) - 1
		if last < 0 || out[last].SKU != l.SKU {
			out = append(out, l)
			continue
		}
		out[last].Quantity += l.Quantity
		if out[last].Quantity > allocator.MaxQuantity {
			return nil, &Invalid{
				Pointer: "/lines",
				Detail:  fmt.Sprintf("must have at most %d of SKU %s together", allocator.MaxQuantity, l.SKU),
			}
		}
	}
	return out, nil
}

// What the fields that the router checks must be.
const skuDetail = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"

var (
	quantityDetail = fmt.Sprintf("must be 1 to %d", allocator.MaxQuantity)
	waitDetail     = fmt.Sprintf("must be 0 to %d", MaxWait.Milliseconds())
	ttlDetail      = fmt.Sprintf("must be at most %d seconds", allocator.MaxTTL/1000)
)

// checkSKU gives a SKU that a command can carry. The error is an *Invalid.
func checkSKU(sku string) (allocator.SKU, error) {
	if !allocator.ValidSKU(allocator.SKU(sku)) {
		return "", &Invalid{Pointer: "/sku", Detail: skuDetail}
	}
	return allocator.SKU(sku), nil
}

// checkTTL gives a span that a command can carry, least or longer.
func checkTTL(ttl time.Duration, least allocator.Millis) (allocator.Millis, error) {
	ms := allocator.Millis(ttl / time.Millisecond)
	if ttl < 0 || ms < least || ms > allocator.MaxTTL {
		return 0, &Invalid{Pointer: "/ttl_seconds", Detail: ttlDetail}
	}
	return ms, nil
}

// checkLen bounds a text.
func checkLen(pointer, text string, limit int) error {
	if len(text) > limit {
		return &Invalid{Pointer: pointer, Detail: fmt.Sprintf("must have at most %d bytes", limit)}
	}
	return nil
}
