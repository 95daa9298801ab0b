package membership

import (
	"bytes"
	"testing"
)

// FuzzFacts: what another member sent is read or refused, and is the same after a way
// there and back.
func FuzzFacts(f *testing.F) {
	f.Add([]byte(`{"i":"a","r":"node","n":"x","f":"3 shards","p":"h:1","z":"z","d":true}`))
	f.Add([]byte(`{"i":""}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, err := decodeFacts(b)
		if err != nil {
			return
		}
		again, err := facts.encode()
		if err != nil {
			return // a text can take more room with its escapes
		}
		if got, err := decodeFacts(again); err != nil || got != facts {
			t.Errorf("%+v became %+v, %v", facts, got, err)
		}
	})
}

// FuzzGreeting: no bytes make more of a greeting than its limit.
func FuzzGreeting(f *testing.F) {
	f.Add([]byte("\x00\x02{}"))
	f.Add([]byte("\xff\xff{}"))
	f.Add([]byte{0, 20, '{'})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := writeHello(&out, h); err != nil {
			return
		}
		if _, err := readHello(&out); err != nil {
			t.Errorf("%+v can't be read again: %v", h, err)
		}
	})
}
