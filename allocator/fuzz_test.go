package allocator_test

// Every decoder against bytes from anywhere: no panic, no memory out of
// proportion, and whatever is accepted must be exactly what would be written.

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"stockade/allocator"
	"stockade/bench/fuzzing"
)

// The most a decoder may take: a part for each byte of input, and a part that
// is always allowed. A message of 40 bytes becomes a struct of 150, and nothing
// took more than 6 KiB; a snapshot fills pages of fixed size and their indexes,
// which took up to 123 KiB; a command may begin some of these pages.
const (
	decodePerByte, decodeAlways   = 32, 32 << 10
	restorePerByte, restoreAlways = 64, 1 << 20
	applyPerByte, applyAlways     = 64, 256 << 10
)

// someCommands has every command, small and at its limits.
func someCommands() []allocator.Command {
	lines := []allocator.Line{{SKU: "a", Quantity: 1}, {SKU: "b", Quantity: allocator.MaxQuantity}}
	id := allocator.ReservationID{Shard: 3, Seq: 77}
	policy := allocator.Policy{
		Version: 9, SafetyStock: 1, MaxPerReservation: 2, MaxPerBuyer: 3, DefaultTTL: 4, MaxTTL: allocator.MaxTTL,
		SaleStarts: 5, SaleEnds: 6, LateConfirm: allocator.LateConfirmReject, Paused: true, Watch: true,
	}
	many := make([]allocator.Message, allocator.MaxMessages)
	for i := range many {
		many[i] = allocator.Message{Kind: allocator.MessageUnits, SKU: "a", Quantity: allocator.Quantity(i + 1), Policy: policy}
	}
	return []allocator.Command{
		&allocator.Reserve{Key: allocator.Key{1}, Lines: lines[:1]},
		&allocator.Reserve{Key: allocator.Key{1}, Body: 1 << 63, KeyTime: 1, TTL: allocator.MaxTTL, Buyer: allocator.Buyer{2},
			BuyerID: strings.Repeat("b", allocator.MaxBuyerLen), Reference: strings.Repeat("r", allocator.MaxReferenceLen), Lines: lines},
		&allocator.Confirm{ID: id}, &allocator.Confirm{ID: id, Lines: lines},
		&allocator.Cancel{ID: id},
		&allocator.Extend{ID: id, TTL: 1},
		&allocator.Return{ID: id}, &allocator.Return{Key: allocator.Key{3}, Body: 4, ID: id, Lines: lines},
		&allocator.PutSKU{SKU: "a", Policy: allocator.Policy{DefaultTTL: 1, MaxTTL: 1}},
		&allocator.PutSKU{Key: allocator.Key{3}, Body: 4, SKU: allocator.SKU(strings.Repeat("s", allocator.MaxSKULen)), Policy: policy,
			HasOnHand: true, OnHand: allocator.MaxQuantity, IfNoneMatch: true, Metadata: bytes.Repeat([]byte("m"), allocator.MaxMetadataLen)},
		&allocator.PutSKU{SKU: "a", Policy: policy, IfMatch: 1 << 62},
		&allocator.SetPaused{SKU: "a", Paused: true}, &allocator.SetPaused{SKU: "a"},
		&allocator.Restock{Key: allocator.Key{3}, SKU: "a", Quantity: 1, Reference: "x"},
		&allocator.Adjust{Key: allocator.Key{3}, SKU: "a", Delta: -allocator.MaxQuantity, Reason: "x"},
		&allocator.Adjust{SKU: "a", Delta: allocator.MaxQuantity},
		&allocator.TransferOut{SKU: "a", To: 1, Quantity: 1, Open: true},
		&allocator.TransferIn{From: 1, First: 1, Messages: many}, &allocator.TransferIn{From: 1, First: 1, Messages: many[:1]},
		&allocator.TransferAck{To: 1, Through: 1 << 40},
		&allocator.Audit{Applied: 1 << 63, Hash: 1<<64 - 1},
	}
}

// checkCommand is the property of both command decoders.
func checkCommand(t *testing.T, data []byte) allocator.Command {
	t.Helper()
	original := bytes.Clone(data)
	var cmd allocator.Command
	var invalid, undecoded error
	fuzzing.InProportion(t, data, decodePerByte, decodeAlways, func() {
		invalid = allocator.ValidateCommand(data)
		cmd, undecoded = allocator.DecodeCommand(data)
	})
	if (invalid == nil) != (undecoded == nil) {
		t.Fatalf("ValidateCommand: %v, DecodeCommand: %v", invalid, undecoded)
	}
	if !bytes.Equal(data, original) {
		t.Fatal("a decoder changed its input")
	}
	if undecoded != nil {
		return nil
	}
	clear(data) // a command shares no memory with its input
	if again := cmd.AppendTo(nil); !bytes.Equal(again, original) {
		t.Fatalf("accepted %x, writes %x: %+v", original, again, cmd)
	}
	return cmd
}

// seedCommands starts a fuzzer from every kind of command; long ones only slow
// it down.
func seedCommands(f *testing.F) {
	for _, c := range someCommands() {
		if wire := c.AppendTo(nil); len(wire) < 1000 {
			f.Add(wire)
		}
	}
}

func FuzzCommand(f *testing.F) {
	seedCommands(f)
	f.Fuzz(func(t *testing.T, data []byte) { checkCommand(t, data) })
}

// TestCommandRoundTrip: every command survives the wire, and no part, longer
// form or other first byte of it is taken for a command by only one decoder.
func TestCommandRoundTrip(t *testing.T) {
	kinds := map[allocator.Kind]bool{}
	for _, c := range someCommands() {
		wire := c.AppendTo(nil)
		kinds[c.Kind()] = true
		got := checkCommand(t, bytes.Clone(wire))
		if !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v, want %+v", got, c)
		}
		for n := range min(len(wire), 400) {
			checkCommand(t, bytes.Clone(wire[:n]))
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				other := bytes.Clone(wire)
				other[n] ^= flip
				checkCommand(t, other)
			}
		}
		checkCommand(t, append(bytes.Clone(wire), 0))
	}
	if len(kinds) != int(allocator.KindAudit) {
		t.Errorf("%d kinds tried of %d", len(kinds), allocator.KindAudit)
	}
}

func TestValidateAllocatesNothing(t *testing.T) {
	for _, c := range someCommands() {
		wire := c.AppendTo(nil)
		n := testing.AllocsPerRun(10, func() {
			if err := allocator.ValidateCommand(wire); err != nil {
				t.Errorf("%T: %v", c, err)
			}
		})
		if n != 0 {
			t.Errorf("%T: %v allocations", c, n)
		}
	}
}

// TestBeyondTheLimits: what no caller may put into a log.
func TestBeyondTheLimits(t *testing.T) {
	line := func(sku allocator.SKU, q allocator.Quantity) allocator.Line {
		return allocator.Line{SKU: sku, Quantity: q}
	}
	reserve := func(change func(*allocator.Reserve)) allocator.Command {
		c := &allocator.Reserve{Key: allocator.Key{1}, Lines: []allocator.Line{line("a", 1)}}
		change(c)
		return c
	}
	put := func(change func(*allocator.PutSKU)) allocator.Command {
		c := &allocator.PutSKU{SKU: "a", Policy: allocator.Policy{DefaultTTL: 1, MaxTTL: 1}}
		change(c)
		return c
	}
	crowd := make([]allocator.Line, allocator.MaxLines+1)
	for i := range crowd {
		crowd[i] = line(allocator.SKU("a"+string(rune('A'+i/26))+string(rune('A'+i%26))), 1)
	}
	id := allocator.ReservationID{Seq: 1}
	for name, c := range map[string]allocator.Command{
		"no key":               reserve(func(c *allocator.Reserve) { c.Key = allocator.Key{} }),
		"no lines":             reserve(func(c *allocator.Reserve) { c.Lines = nil }),
		"too many lines":       reserve(func(c *allocator.Reserve) { c.Lines = crowd }),
		"zero units":           reserve(func(c *allocator.Reserve) { c.Lines[0].Quantity = 0 }),
		"negative units":       reserve(func(c *allocator.Reserve) { c.Lines[0].Quantity = -1 }),
		"too many units":       reserve(func(c *allocator.Reserve) { c.Lines[0].Quantity = allocator.MaxQuantity + 1 }),
		"the same SKU twice":   reserve(func(c *allocator.Reserve) { c.Lines = []allocator.Line{line("a", 1), line("a", 1)} }),
		"unsorted":             reserve(func(c *allocator.Reserve) { c.Lines = []allocator.Line{line("b", 1), line("a", 1)} }),
		"empty SKU":            reserve(func(c *allocator.Reserve) { c.Lines[0].SKU = "" }),
		"bad SKU":              reserve(func(c *allocator.Reserve) { c.Lines[0].SKU = "a b" }),
		"long SKU":             reserve(func(c *allocator.Reserve) { c.Lines[0].SKU = allocator.SKU(strings.Repeat("a", 65)) }),
		"long buyer":           reserve(func(c *allocator.Reserve) { c.BuyerID = strings.Repeat("b", allocator.MaxBuyerLen+1) }),
		"long reference":       reserve(func(c *allocator.Reserve) { c.Reference = strings.Repeat("b", allocator.MaxReferenceLen+1) }),
		"long hold":            reserve(func(c *allocator.Reserve) { c.TTL = allocator.MaxTTL + 1 }),
		"negative hold":        reserve(func(c *allocator.Reserve) { c.TTL = -1 }),
		"negative key time":    reserve(func(c *allocator.Reserve) { c.KeyTime = -1 }),
		"no extension":         &allocator.Extend{ID: id},
		"long extension":       &allocator.Extend{ID: id, TTL: allocator.MaxTTL + 1},
		"deposit too large":    put(func(c *allocator.PutSKU) { c.HasOnHand, c.OnHand = true, allocator.MaxQuantity+1 }),
		"negative deposit":     put(func(c *allocator.PutSKU) { c.HasOnHand, c.OnHand = true, -1 }),
		"negative safety":      put(func(c *allocator.PutSKU) { c.Policy.SafetyStock = -1 }),
		"negative limit":       put(func(c *allocator.PutSKU) { c.Policy.MaxPerBuyer = -1 }),
		"long default hold":    put(func(c *allocator.PutSKU) { c.Policy.DefaultTTL = allocator.MaxTTL + 1 }),
		"unknown late confirm": put(func(c *allocator.PutSKU) { c.Policy.LateConfirm = 2 }),
		"long metadata":        put(func(c *allocator.PutSKU) { c.Metadata = make([]byte, allocator.MaxMetadataLen+1) }),
		"empty restock":        &allocator.Restock{Key: allocator.Key{1}, SKU: "a"},
		"negative restock":     &allocator.Restock{Key: allocator.Key{1}, SKU: "a", Quantity: -5},
		"empty adjustment":     &allocator.Adjust{SKU: "a"},
		"large adjustment":     &allocator.Adjust{SKU: "a", Delta: -allocator.MaxQuantity - 1},
		"no messages":          &allocator.TransferIn{First: 1},
		"message zero":         &allocator.TransferIn{Messages: unitsOf("a", 1)},
		"message of no units":  &allocator.TransferIn{First: 1, Messages: unitsOf("a", 0)},
		"too many messages":    &allocator.TransferIn{First: 1, Messages: make([]allocator.Message, allocator.MaxMessages+1)},
	} {
		if err := allocator.ValidateCommand(c.AppendTo(nil)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzApply applies whatever the decoder lets through to a shop with goods.
func FuzzApply(f *testing.F) {
	seedCommands(f)
	goods := goodsImage(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if allocator.ValidateCommand(data) != nil {
			return
		}
		s, err := allocator.Restore(bytes.NewReader(goods))
		if err != nil {
			t.Fatal(err)
		}
		begin(t, s, s.Now()+1)
		var answer []byte
		fuzzing.InProportion(t, data, applyPerByte, applyAlways, func() { answer, err = s.Apply(data, nil) })
		if err != nil {
			if cmd, _ := allocator.DecodeCommand(data); cmd.Kind() != allocator.KindAudit {
				t.Fatalf("%T%+v passed ValidateCommand and stops the replica: %v", cmd, cmd, err)
			}
			return
		}
		var r allocator.Result
		if err := allocator.DecodeResult(answer, &r); err != nil {
			t.Fatalf("its result cannot be read: %v", err)
		}
		if err := s.CheckInvariants(); err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		begin(t, s, s.Now()+1_000_000)
		if err := s.CheckInvariants(); err != nil {
			t.Fatalf("%x: later: %v", data, err)
		}
	})
}

// goodsImage is a snapshot with a little of everything in it.
func goodsImage(t testing.TB) []byte {
	s := newShop(t)
	p := openPolicy()
	p.MaxPerBuyer = 10
	a, b := s.stock("a", 50, p), s.stock("b", 50, openPolicy())
	for buyer, status := range []allocator.Status{
		allocator.StatusConfirmed, allocator.StatusCanceled, allocator.StatusExpired,
		allocator.StatusConfirmed, allocator.StatusReserved, allocator.StatusReserved,
	} {
		s.endAs(s.held(a, 1, byte(buyer)), status)
	}
	s.ok(&allocator.Reserve{Key: s.key(), Reference: "cart", Lines: []allocator.Line{{SKU: a, Quantity: 2}, {SKU: b, Quantity: 3}}})
	s.ok(&allocator.TransferOut{SKU: a, To: 1, Quantity: 5})
	s.ok(&allocator.SetPaused{SKU: b, Paused: true})
	s.ok(&allocator.TransferIn{From: 1, First: 1, Messages: unitsOf(sku("c", 1), 9)})
	s.ok(&allocator.PutSKU{Key: s.key(), SKU: sku("d", 0), HasOnHand: true, OnHand: 3, Policy: p, Metadata: []byte(`{"x":1}`)})
	return image(t, s.Freeze())
}

// someResults are encoded answers as the state gives them.
func someResults(t testing.TB) [][]byte {
	var all [][]byte
	for _, b := range record(t, 5, 40) {
		all = append(all, b.answers...)
	}
	return all
}

func FuzzResult(f *testing.F) {
	for _, a := range someResults(f) {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkResult(t, data) })
}

func checkResult(t *testing.T, data []byte) {
	t.Helper()
	original := bytes.Clone(data)
	r := allocator.Result{Shortages: make([]allocator.Shortage, 3), Version: 99, Reservation: allocator.Reservation{Ended: 5}}
	var err error
	fuzzing.InProportion(t, data, decodePerByte, decodeAlways, func() { err = allocator.DecodeResult(data, &r) })
	if err != nil {
		return
	}
	if allocator.ResultCode(original) != r.Code || allocator.ResultHasShortages(original) != (len(r.Shortages) > 0) {
		t.Errorf("shortcuts say %v, %v of %+v", allocator.ResultCode(original), allocator.ResultHasShortages(original), r)
	}
	clear(data) // a result shares no memory with its input
	if again := r.AppendTo(nil); !bytes.Equal(again, original) {
		t.Fatalf("accepted %x, writes %x: %+v", original, again, r)
	}
}

func TestResultDamage(t *testing.T) {
	for i, a := range someResults(t) {
		checkResult(t, bytes.Clone(a))
		if i%10 != 0 {
			continue
		}
		for n := range a {
			checkResult(t, bytes.Clone(a[:n]))
			other := bytes.Clone(a)
			other[n] ^= 1 << (n % 8)
			checkResult(t, other)
		}
	}
}

func FuzzReservationID(f *testing.F) {
	f.Add(allocator.ReservationID{Shard: 1, Seq: 2}.String())
	f.Add(allocator.ReservationID{Shard: allocator.MaxShards - 1, Seq: allocator.MaxSeq}.String())
	f.Add("r-0000000000000000")
	f.Fuzz(func(t *testing.T, text string) {
		var id allocator.ReservationID
		var err error
		fuzzing.InProportion(t, []byte(text), decodePerByte, decodeAlways, func() { id, err = allocator.IDMark(0).Parse(text) })
		if err != nil {
			return
		}
		if id.String() != strings.ToLower(text) {
			t.Errorf("%q is read as %v", text, id)
		}
		if id.Seq == 0 || int(id.Shard) >= allocator.MaxShards {
			t.Errorf("%q is an id nobody gives: %+v", text, id)
		}
	})
}

// TestReservationIDTypingErrors: one wrong character, or two swapped.
func TestReservationIDTypingErrors(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		id := allocator.ReservationID{Shard: allocator.ShardID(rnd.IntN(allocator.MaxShards)), Seq: 1 + rnd.Uint64N(allocator.MaxSeq)}
		text := id.String()
		if back, err := allocator.IDMark(0).Parse(strings.ToUpper(text)); err != nil || back != id {
			t.Fatalf("%q in upper case: %v, %v", text, back, err)
		}
		for i := 2; i < len(text); i++ {
			for _, c := range "0123456789abcdefghijklmnopqrstuvwxyz-" {
				wrong := text[:i] + string(c) + text[i+1:]
				mustNotParse(t, wrong, text)
			}
			if i > 2 {
				mustNotParse(t, text[:i-1]+text[i:i+1]+text[i-1:i]+text[i+1:], text)
			}
		}
	}
}

func mustNotParse(t *testing.T, wrong, text string) {
	t.Helper()
	if id, err := allocator.IDMark(0).Parse(wrong); err == nil && wrong != text {
		t.Errorf("%q, mistyped as %q, is taken for %v", text, wrong, id)
	}
}

// checkRestore is the property of Restore: an error, or a state that is sound
// and can go on.
func checkRestore(t *testing.T, data []byte) bool {
	t.Helper()
	var s *allocator.State
	var err error
	fuzzing.InProportion(t, data, restorePerByte, restoreAlways, func() { s, err = allocator.Restore(bytes.NewReader(data)) })
	if err != nil {
		return false
	}
	if err := s.CheckInvariants(); err != nil {
		t.Fatalf("restored a state that is not sound: %v", err)
	}
	written := image(t, s.Freeze())
	if back, err := allocator.Restore(bytes.NewReader(written)); err != nil || !bytes.Equal(written, image(t, back.Freeze())) {
		t.Fatalf("a restored state cannot be saved and restored: %v", err)
	}
	goOn(t, s)
	return true
}

// goOn works with a state that came from damaged bytes. It may refuse, even with
// an error, but not panic.
func goOn(t *testing.T, s *allocator.State) {
	t.Helper()
	_, _ = s.NextDue()
	_ = s.Stats()
	for _, to := range s.Destinations() {
		s.Outbox(to, 0, 10)
	}
	for _, row := range s.Freeze().SKUs("", "", 100) {
		s.Bucket(row.SKU)
		c := &allocator.Reserve{Key: allocator.Key{0xab, 1}, Lines: []allocator.Line{{SKU: row.SKU, Quantity: 1}}}
		_, _ = s.Apply(c.AppendTo(nil), nil)
	}
	for seq := range uint64(20) {
		id := allocator.ReservationID{Seq: seq + 1, Shard: s.Config().Shard}
		s.Reservation(id)
		_, _ = s.Apply((&allocator.Confirm{ID: id}).AppendTo(nil), nil)
	}
	for range 5 {
		if due, ok := s.NextDue(); !ok || s.Begin(max(due, s.Now()+1)) != nil {
			break
		}
	}
}

func FuzzRestore(f *testing.F) {
	goods := goodsImage(f)
	f.Add(goods)
	f.Add(image(f, newShop(f).Freeze()))
	f.Add(goods[:len(goods)/2])
	f.Fuzz(func(t *testing.T, data []byte) { checkRestore(t, data) })
}

// TestRestoreDamage cuts a snapshot short everywhere and flips bits all over it.
func TestRestoreDamage(t *testing.T) {
	goods := goodsImage(t)
	if !checkRestore(t, goods) {
		t.Fatal("a sound snapshot is refused")
	}
	step := 1 + len(goods)/1000
	for n := 0; n < len(goods); n += step {
		if checkRestore(t, goods[:n]) {
			t.Errorf("a snapshot cut at %d of %d is accepted", n, len(goods))
		}
		for _, flip := range []byte{0x01, 0x80, 0xff, 1 << (n % 8)} {
			other := bytes.Clone(goods)
			other[n] ^= flip
			checkRestore(t, other)
		}
	}
	if checkRestore(t, append(bytes.Clone(goods), 0)) {
		t.Error("a snapshot with something behind it is accepted")
	}
}
