package allocator

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// scriptVerbs are the commands of the scripts.
var scriptVerbs map[string]func(sc *script, a *arguments) string

func init() {
	scriptVerbs = map[string]func(sc *script, a *arguments) string{
		"cluster": (*script).cluster, // shards= retention= expiries=
		"begin":   (*script).begin,   // stamp
		"restart": (*script).restart,
		"bucket":  (*script).bucket, // SKU
		"get":     (*script).get,    // #id
		"stats":   (*script).stats,
		"due":     (*script).due,
		"deliver": (*script).deliver, // to= [lost] [unacknowledged]
		"balance": (*script).balance, // SKU
	}
	for verb, command := range scriptCommands {
		scriptVerbs[verb] = func(sc *script, a *arguments) string { return sc.apply(command(sc, a)) }
	}
}

// scriptCommands make commands of the state machine.
var scriptCommands = map[string]func(sc *script, a *arguments) Command{
	"reserve": func(sc *script, a *arguments) Command { // key= body= keytime= ttl= buyer= ref= SKU=quantity...
		c := &Reserve{
			Key: key16(a.text("key")), Body: Fingerprint(a.number("body")), KeyTime: Millis(a.number("keytime")),
			TTL: Millis(a.number("ttl")), Buyer: key16(a.text("buyer")), BuyerID: a.text("buyer"), Reference: a.text("ref"),
		}
		c.Lines = a.lines()
		return c
	},
	"confirm": func(sc *script, a *arguments) Command { return &Confirm{ID: a.id(sc), Lines: a.lines()} },
	"cancel":  func(sc *script, a *arguments) Command { return &Cancel{ID: a.id(sc)} },
	"extend":  func(sc *script, a *arguments) Command { return &Extend{ID: a.id(sc), TTL: Millis(a.number("ttl"))} },
	"return": func(sc *script, a *arguments) Command { // #id key= body= SKU=quantity...
		c := &Return{Key: key16(a.text("key")), Body: Fingerprint(a.number("body")), ID: a.id(sc)}
		c.Lines = a.lines()
		return c
	},
	"put": func(sc *script, a *arguments) Command { // SKU key= body= on_hand= safety= ...
		_, create := a.named["on_hand"]
		return &PutSKU{
			Key: key16(a.text("key")), Body: Fingerprint(a.number("body")), SKU: SKU(a.bare[0]),
			HasOnHand: create, OnHand: Quantity(a.number("on_hand")), IfNoneMatch: a.flag("none-match"),
			IfMatch: uint64(a.number("match")), Policy: a.policy(), Metadata: []byte(a.text("metadata")),
		}
	},
	"pause":  func(sc *script, a *arguments) Command { return &SetPaused{SKU: SKU(a.bare[0]), Paused: true} },
	"resume": func(sc *script, a *arguments) Command { return &SetPaused{SKU: SKU(a.bare[0])} },
	"restock": func(sc *script, a *arguments) Command {
		return &Restock{Key: key16(a.text("key")), Body: Fingerprint(a.number("body")), SKU: SKU(a.bare[0]), Quantity: Quantity(a.number("n"))}
	},
	"adjust": func(sc *script, a *arguments) Command {
		return &Adjust{Key: key16(a.text("key")), Body: Fingerprint(a.number("body")), SKU: SKU(a.bare[0]), Delta: Quantity(a.number("n")), Reason: "counted"}
	},
	"send": func(sc *script, a *arguments) Command { // SKU to= n= [open]
		return &TransferOut{SKU: SKU(a.bare[0]), To: ShardID(a.number("to")), Quantity: Quantity(a.number("n")), Open: a.flag("open")}
	},
	"acknowledge": func(sc *script, a *arguments) Command { // to= through=
		return &TransferAck{To: ShardID(a.number("to")), Through: uint64(a.number("through"))}
	},
	"audit": func(sc *script, a *arguments) Command { // [wrong]
		c := &Audit{Applied: sc.state().Applied(), Hash: sc.state().Hash()}
		if a.flag("wrong") {
			c.Hash++
		}
		return c
	},
}

func (a *arguments) policy() Policy {
	p := Policy{
		SafetyStock: Quantity(a.number("safety")), MaxPerReservation: Quantity(a.number("most")),
		MaxPerBuyer: Quantity(a.number("per_buyer")), DefaultTTL: Millis(a.number("ttl")), MaxTTL: Millis(a.number("max_ttl")),
		SaleStarts: Millis(a.number("starts")), SaleEnds: Millis(a.number("ends")),
	}
	if a.flag("reject") {
		p.LateConfirm = LateConfirmReject
	}
	return p
}

func (sc *script) state() *State { return sc.shards[sc.on] }

func (sc *script) cluster(a *arguments) string {
	sc.n = max(1, int(a.number("shards")))
	for i := range sc.n {
		s, err := New(Config{Shard: ShardID(i), Shards: sc.n, Retention: Millis(a.number("retention")), ExpiryPerStamp: int(a.number("expiries"))})
		if err != nil {
			return err.Error()
		}
		sc.shards[i] = s
	}
	return ""
}

func (sc *script) begin(a *arguments) string {
	stamp, err := strconv.ParseInt(a.bare[0], 10, 64)
	if err != nil {
		return err.Error()
	}
	before := sc.state().counts.endedBy[StatusExpired]
	if err := sc.state().Begin(Millis(stamp)); err != nil {
		return err.Error()
	}
	if n := sc.state().counts.endedBy[StatusExpired] - before; n > 0 {
		return fmt.Sprintf("now %d, %d expired", sc.state().Now(), n)
	}
	return fmt.Sprintf("now %d", sc.state().Now())
}

func (sc *script) apply(c Command) string {
	out, err := sc.state().Apply(c.AppendTo(nil), nil)
	if err != nil {
		return "stops: " + err.Error()
	}
	var r Result
	if err := DecodeResult(out, &r); err != nil {
		return err.Error()
	}
	return printResult(&r)
}

func printResult(r *Result) string {
	var b strings.Builder
	b.WriteString(r.Code.String())
	add := func(show bool, format string, args ...any) {
		if show {
			fmt.Fprintf(&b, " "+format, args...)
		}
	}
	add(r.Replayed, "(again)")
	add(r.Created, "created")
	add(r.Version != 0, "version=%d", r.Version)
	add(r.Granted != 0, "granted=%d", r.Granted)
	add(r.Through != 0, "through=%d", r.Through)
	add(r.SKU != "", "sku=%s", r.SKU)
	add(r.Limit != 0, "limit=%d", r.Limit)
	add(r.Requested != 0, "requested=%d", r.Requested)
	add(r.Available != 0, "available=%d", r.Available)
	for _, s := range r.Shortages {
		add(true, "short=%s:%d/%d", s.SKU, s.Available, s.Requested)
		add(!s.Known, "unknown")
	}
	add(r.Reservation.Status != 0, "%s", printReservation(&r.Reservation))
	return b.String()
}

func printReservation(r *Reservation) string {
	text := fmt.Sprintf("#%d %s", r.ID.Seq, r.Status)
	for _, l := range r.Lines {
		text += fmt.Sprintf(" %s=%d", l.SKU, l.Quantity)
	}
	text += fmt.Sprintf(" created=%d expires=%d", r.Created, r.Expires)
	if r.Ended != 0 {
		text += fmt.Sprintf(" ended=%d", r.Ended)
	}
	if r.BuyerID != "" {
		text += " buyer=" + r.BuyerID
	}
	if r.Reference != "" {
		text += " ref=" + r.Reference
	}
	return text
}

// restart puts the shard through a snapshot.
func (sc *script) restart(*arguments) string {
	var image bytes.Buffer
	if _, err := sc.state().Freeze().WriteTo(&image); err != nil {
		return err.Error()
	}
	s, err := Restore(&image)
	if err != nil {
		return err.Error()
	}
	sc.shards[sc.on] = s
	return ""
}

func (sc *script) bucket(a *arguments) string {
	r := sc.state().Bucket(SKU(a.bare[0]))
	if !r.Known {
		return "no bucket"
	}
	text := fmt.Sprintf("version=%d available=%d reserved=%d committed=%d", r.Policy.Version, r.Available, r.Reserved, r.Committed)
	if r.Anchor {
		text += fmt.Sprintf(" safety=%d deposited=%d adjusted=%d", r.Safety, r.Deposited, r.Adjusted)
	}
	if r.Policy.Paused {
		text += " paused"
	}
	for _, f := range r.Flows {
		text += fmt.Sprintf(" shard%d:sent=%d,received=%d", f.Peer, f.Sent, f.Received)
	}
	for _, m := range r.Outbox {
		text += fmt.Sprintf(" message%d:to=%d,units=%d", m.Seq, m.To, m.Quantity)
	}
	if len(r.Metadata) > 0 {
		text += " metadata=" + string(r.Metadata)
	}
	return text
}

func (sc *script) get(a *arguments) string {
	r, ok := sc.state().Reservation(a.id(sc))
	if !ok {
		return "no reservation"
	}
	return printReservation(&r)
}

func (sc *script) stats(*arguments) string {
	s := sc.state().Stats()
	return fmt.Sprintf("available=%d reserved=%d committed=%d live=%d records=%d purchases=%d outbox=%d lag=%d",
		s.Available, s.Reserved, s.Committed, s.Live, s.Records, s.Purchases, s.OutboxLen, s.ExpiryLag)
}

func (sc *script) due(*arguments) string {
	due, ok := sc.state().NextDue()
	if !ok {
		return "nothing is due"
	}
	return fmt.Sprintf("due %d", due)
}

// deliver takes the outbox of this shard to another one. Lost: it does not
// arrive. Unacknowledged: the answer does not come back.
func (sc *script) deliver(a *arguments) string {
	from, to := sc.on, int(a.number("to"))
	messages, first := sc.state().Outbox(ShardID(to), uint64(a.number("after")), MaxMessages)
	text := fmt.Sprintf("%d messages from %d", len(messages), first)
	if len(messages) == 0 || a.flag("lost") {
		return text
	}
	sc.on = to
	text += "\n" + sc.apply(&TransferIn{From: ShardID(from), First: first, Messages: messages})
	through := sc.state().Vector().Received[from]
	if sc.on = from; a.flag("unacknowledged") {
		return text
	}
	return text + "\n" + sc.apply(&TransferAck{To: ShardID(to), Through: through})
}

func (sc *script) balance(a *arguments) string {
	var c Cut
	for i := range sc.n {
		c = append(c, sc.shards[i].Bucket(SKU(a.bare[0])))
	}
	b := c.Balance()
	text := fmt.Sprintf("balanced=%v deposited=%d on_hand=%d available=%d in_transit=%d", b.Balanced, b.Deposited, b.OnHand, c.Available(), c.InTransit())
	for _, p := range b.Problems {
		text += "\n" + p
	}
	return text
}
