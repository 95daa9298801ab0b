package history

import (
	"bytes"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"stockade/bench/fuzzing"
)

// The most that reading an answer, or a file of calls, may take. An answer has a few short
// fields. A call may be three bytes, and is a struct of some 230 in a list that grows: that
// took 420 bytes for each.
const (
	answerPerByte, readAlways = 16, 64 << 10
	callsPerByte              = 512
)

var kinds = []Kind{Reserve, Confirm, Cancel, Read, Extend, Return, Restock, Adjust}

// FuzzParseAnswer reads answers to calls. What nobody can know is never judged, and what was
// certainly not done is never taken for done; and each answer is one of those there are.
func FuzzParseAnswer(f *testing.F) {
	f.Add(byte(0), http.StatusCreated, []byte(`{"id":"r-1","status":"reserved","expires_at":"2026-01-01T00:00:01Z"}`))
	f.Add(byte(1), http.StatusOK, []byte(`{"id":"r-1","status":"confirmed"}`))
	f.Add(byte(2), http.StatusConflict, []byte(`{"code":"reservation-confirmed"}`))
	f.Add(byte(3), http.StatusNotFound, []byte(`{"code":"reservation-not-found"}`))
	f.Add(byte(0), http.StatusServiceUnavailable, []byte(`{"code":"insufficient-stock"}`))
	f.Add(byte(0), http.StatusOK, []byte(`{"id":"r-`))
	f.Add(byte(0), 0, []byte{})
	f.Add(byte(3), http.StatusOK, []byte(`{"id":"r-1","status":"parked"}`))
	f.Add(byte(5), http.StatusOK, []byte(`{"id":"r-1","status":"confirmed","lines":[{"sku":"s","quantity":0}]}`))
	f.Add(byte(6), http.StatusOK, []byte(`{"sku":"s","version":3}`))
	f.Fuzz(func(t *testing.T, which byte, status int, body []byte) {
		kind := kinds[int(which)%len(kinds)]
		var a Answer
		fuzzing.InProportion(t, body, answerPerByte, readAlways, func() { a = ParseAnswer(kind, status, body) })
		switch {
		case a.Outcome == Held && status >= http.StatusBadRequest,
			a.Outcome == NotDone && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests,
			a.Outcome == Unknown && (a.ID != "" || a.Code != ""),
			!slices.Contains(outcomes, a.Outcome),
			a.Outcome == Odd && (a.ID != "" || a.Code == ""),
			status/100 == 2 && a.Outcome != Odd && a.Outcome != Unknown && a.Outcome != Done && !slices.Contains(successes[kind], a.Outcome):
			t.Errorf("%s answered %d with %q is %+v", kind, status, body, a)
		}
	})
}

// FuzzParse reads files of calls. What is taken is the same when it is written and read
// again.
func FuzzParse(f *testing.F) {
	var file bytes.Buffer
	call := Call{Client: 1, Server: "a", Kind: Reserve, Key: "k", ID: "r-1", SKU: "s", Units: 2, Begin: 3, End: 4, Wait: 5, Expires: 6, Outcome: Held, Op: "o", Has: 2, TTL: 7, Note: "n"}
	if err := Write(&file, []Call{call, {Kind: Read, Outcome: Unknown}}); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte("\n"))
	f.Add([]byte(strings.Repeat("{}\n", 5000)))
	f.Add([]byte(strings.Repeat("x", maxLine+1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var calls []Call
		var err error
		fuzzing.InProportion(t, data, callsPerByte, readAlways, func() { calls, err = Parse(bytes.NewReader(data)) })
		if err != nil {
			return
		}
		var file bytes.Buffer
		if err := Write(&file, calls); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(bytes.Split(file.Bytes(), []byte("\n")), func(line []byte) bool { return len(line) >= maxLine }) {
			return // with its escapes a line can be too long
		}
		if again, err := Parse(&file); err != nil || !reflect.DeepEqual(again, calls) {
			t.Errorf("%q is %+v, and written and read again %+v (%v)", data, calls, again, err)
		}
	})
}
