package allocator

import (
	"bytes"
	"testing"
)

// The hot path allocates nothing but, now and then, memory for records.

func TestApplyAllocatesNothing(t *testing.T) {
	c := newTill(t)
	c.ok(&PutSKU{SKU: "b", HasOnHand: true, OnHand: MaxQuantity, Policy: Policy{MaxPerBuyer: MaxOnHand}})
	commands := map[string]Command{
		"reserve one line": &Reserve{Key: Key{15: 1}, TTL: 10, Lines: []Line{{"a", 1}}},
		"reserve a cart": &Reserve{
			Key: Key{14: 1}, TTL: 10, Buyer: Buyer{1}, BuyerID: "ann", Reference: "order", Lines: []Line{{"a", 1}, {"b", 2}},
		},
		"refused":           &Reserve{Key: Key{13: 1}, Lines: []Line{{"a", MaxQuantity}, {"b", MaxQuantity}}},
		"unknown":           &Cancel{ID: ReservationID{0, 1 << 40}},
		"late acknowledged": &TransferAck{},
	}
	for name, command := range commands {
		cmd := command.AppendTo(nil)
		batch := [][]byte{cmd}
		out := make([]byte, 0, 1024)
		n := byte(0)
		got := testing.AllocsPerRun(2000, func() {
			if command.Kind() == KindReserve {
				n++
				cmd[1], cmd[2] = cmd[1]+1, cmd[2]+n/255
			}
			c.Warm(batch)
			var err error
			if out, err = c.Apply(cmd, out[:0]); err != nil {
				t.Fatal(err)
			}
		})
		if got >= 1 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
	c.sound()
}

func TestValidateAllocatesNothing(t *testing.T) {
	for _, command := range []Command{
		&Reserve{Key: Key{1}, Lines: []Line{{"a", 1}, {"b", 2}}, BuyerID: "ann"},
		&PutSKU{SKU: "a", Metadata: []byte("{}")},
		&TransferIn{From: 1, First: 1, Messages: []Message{{Kind: MessagePolicy, SKU: "a"}, {Kind: MessagePolicy, SKU: "b"}}},
	} {
		cmd := command.AppendTo(nil)
		if got := testing.AllocsPerRun(100, func() {
			if err := ValidateCommand(cmd); err != nil {
				t.Fatal(err)
			}
		}); got != 0 {
			t.Errorf("%T: %v allocations", command, got)
		}
	}
}

// TestWarmChangesNothing warms with commands of all kinds and with nonsense.
func TestWarmChangesNothing(t *testing.T) {
	c := newTill(t)
	id := c.reserve(1000)
	before := c.image(c.Freeze())
	var batch [][]byte
	for kind := range 256 {
		for _, length := range []int{1, 5, 16, 17, 40} {
			cmd := bytes.Repeat([]byte{0xff}, length)
			cmd[0] = byte(kind)
			batch = append(batch, cmd)
		}
	}
	batch = append(batch, nil, []byte{}, (&Confirm{ID: id}).AppendTo(nil), (&Cancel{ID: ReservationID{0, 99}}).AppendTo(nil))
	for len(batch) > 0 {
		n := min(len(batch), WarmBatch+1)
		c.Warm(batch[:n])
		batch = batch[n:]
	}
	if !bytes.Equal(before, c.image(c.Freeze())) {
		t.Error("the state changed")
	}
}

func TestPeekResults(t *testing.T) {
	short := Result{Code: CodeInsufficientStock, SKU: "a", Shortages: []Shortage{{SKU: "a", Requested: 2}}}.AppendTo(nil)
	plain := Result{Code: CodeKeyReused, At: 5}.AppendTo(nil)
	if ResultCode(short) != CodeInsufficientStock || !ResultHasShortages(short) {
		t.Errorf("%v, %v", ResultCode(short), ResultHasShortages(short))
	}
	if ResultCode(plain) != CodeKeyReused || ResultHasShortages(plain) {
		t.Errorf("%v, %v", ResultCode(plain), ResultHasShortages(plain))
	}
	for _, none := range [][]byte{nil, {}, {1}, {1, 2}, {9, 0, 0xff, 0}, {1, 200, 0}} {
		if ResultCode(none).String() != "invalid" || ResultHasShortages(none) {
			t.Errorf("%x: %v, %v", none, ResultCode(none), ResultHasShortages(none))
		}
	}
}
