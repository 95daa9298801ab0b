package allocator_test

// Equality of what the state gives out, written by hand because it runs many
// times after every step of a random program, and reflection takes most of that
// time. An empty slice equals a nil one.

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"stockade/allocator"
)

func sameResult(a, b allocator.Result) bool {
	return a.Code == b.Code && a.Replayed == b.Replayed && a.At == b.At &&
		sameReservation(a.Reservation, b.Reservation) &&
		a.SKU == b.SKU && a.Limit == b.Limit && a.Requested == b.Requested && a.Available == b.Available &&
		slices.Equal(a.Shortages, b.Shortages) &&
		a.Version == b.Version && a.Created == b.Created && a.Granted == b.Granted && a.Through == b.Through
}

func sameReservation(a, b allocator.Reservation) bool {
	return a.ID == b.ID && a.Status == b.Status && slices.Equal(a.Lines, b.Lines) &&
		a.BuyerID == b.BuyerID && a.Reference == b.Reference &&
		a.Created == b.Created && a.Expires == b.Expires && a.Ended == b.Ended
}

func sameReport(a, b *allocator.BucketReport) bool {
	return a.Shard == b.Shard && a.Shards == b.Shards && a.SKU == b.SKU && a.Known == b.Known && a.Anchor == b.Anchor &&
		a.Policy == b.Policy && a.Created == b.Created && a.Updated == b.Updated &&
		a.Deposited == b.Deposited && a.Adjusted == b.Adjusted && a.Available == b.Available &&
		a.Reserved == b.Reserved && a.Committed == b.Committed && a.Safety == b.Safety &&
		slices.Equal(a.Flows, b.Flows) && slices.Equal(a.Outbox, b.Outbox) && bytes.Equal(a.Metadata, b.Metadata) &&
		sameVector(a.Vector, b.Vector) && a.Stamp == b.Stamp && a.Applied == b.Applied && a.Hash == b.Hash && a.Rate == b.Rate
}

func sameVector(a, b allocator.Vector) bool {
	return slices.Equal(a.Sent, b.Sent) && slices.Equal(a.Acked, b.Acked) && slices.Equal(a.Received, b.Received)
}

// TestEqualityIsComplete changes every field of each type in turn: one that the
// functions above do not look at is found here.
func TestEqualityIsComplete(t *testing.T) {
	everyField(t, sameResult)
	everyField(t, sameReservation)
	everyField(t, func(a, b allocator.BucketReport) bool { return sameReport(&a, &b) })
	everyField(t, sameVector)
}

func everyField[T any](t *testing.T, same func(a, b T) bool) {
	t.Helper()
	var zero T
	for i := range reflect.TypeFor[T]().NumField() {
		var other T
		v := reflect.ValueOf(&other).Elem()
		disturb(v.Field(i))
		if same(zero, other) || !same(other, other) {
			t.Errorf("the comparison of %T does not look at %s", zero, v.Type().Field(i).Name)
		}
	}
}

// disturb makes a value differ from zero.
func disturb(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Struct:
		disturb(v.Field(0))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(1)
	default:
		v.SetUint(1)
	}
}
