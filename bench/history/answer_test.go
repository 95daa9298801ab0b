package history

import (
	"strings"
	"testing"
)

func TestParseAnswer(t *testing.T) {
	const reserved = `{"id":"r-1","status":"reserved","expires_at":"2026-01-01T00:00:01Z"}`
	for _, c := range []struct {
		kind   Kind
		status int
		body   string
		want   Outcome
		id     string
	}{
		{Reserve, 201, reserved, Held, "r-1"},
		{Read, 200, reserved, Held, "r-1"},
		{Confirm, 200, `{"id":"r-1","status":"confirmed"}`, Sold, "r-1"},
		{Cancel, 200, `{"id":"r-1","status":"expired"}`, Expired, "r-1"},
		{Reserve, 409, `{"code":"insufficient-stock"}`, Short, ""},
		{Confirm, 200, `{"id":"r-1","status":"confirmed","lines":[{"quantity":0}]}`, Returned, "r-1"},
		{Extend, 200, reserved, Held, "r-1"},
		{Return, 200, `{"id":"r-1","status":"confirmed","lines":[{"quantity":2}]}`, Sold, "r-1"},
		{Return, 200, `{"id":"r-1","status":"confirmed","lines":[{"quantity":0},{"quantity":0}]}`, Returned, "r-1"},
		{Return, 409, `{"code":"reservation-not-confirmed"}`, NotSold, ""},
		{Return, 409, `{"code":"reservation-expired"}`, Expired, ""},
		{Extend, 409, `{"code":"reservation-confirmed"}`, Sold, ""},
		{Restock, 200, `{"sku":"s","version":3}`, Done, ""},
		{Adjust, 409, `{"code":"below-reserved"}`, Refused, ""},
		{Adjust, 200, `{"sku":"s`, Unknown, ""},
		{Confirm, 410, `{"status":410,"code":"reservation-expired","reservation":{"id":"r-1"}}`, Expired, ""},
		{Confirm, 409, `{"code":"reservation-canceled"}`, Canceled, ""},
		{Cancel, 409, `{"code":"reservation-confirmed"}`, Sold, ""},
		{Read, 404, `{"code":"reservation-not-found"}`, NotFound, ""},
		{Reserve, 409, `{"code":"sku-paused"}`, Refused, ""},
		{Reserve, 400, `<html>`, Refused, ""},
		{Reserve, 201, `{"id":"r-`, Unknown, ""},
		{Reserve, 503, `{"code":"overloaded"}`, NotDone, ""},
		{Reserve, 429, ``, NotDone, ""},
		{Reserve, 504, `{"code":"outcome-unknown"}`, Unknown, ""},
		{Reserve, 500, ``, Odd, ""},
		{Reserve, 502, ``, Unknown, ""},
		{Reserve, 502, `<html>`, Unknown, ""},
		{Read, 502, `{"code":"reservation-not-found"}`, Unknown, ""},
		{Reserve, 0, ``, Unknown, ""},
	} {
		a := ParseAnswer(c.kind, c.status, []byte(c.body))
		if a.Outcome != c.want || a.ID != c.id || a.Expires.IsZero() != (c.body != reserved) {
			t.Errorf("%s %d %s: %+v", c.kind, c.status, c.body, a)
		}
	}
}

// What is no answer of the API is none that counts, and says what it was.
func TestOddAnswers(t *testing.T) {
	for _, c := range []struct {
		kind   Kind
		status int
		body   string
	}{
		{Read, 200, `{"id":"r-1","status":"parked"}`},
		{Read, 200, `{"id":"r-1"}`},
		{Read, 200, `{"status":"reserved"}`},
		{Read, 200, `{"id":"r-1","status":"reserved","expires_at":"soon"}`},
		{Read, 200, `[]`},
		{Read, 200, `{}`},
		{Read, 302, `{"id":"r-1","status":"reserved"}`},
		{Read, 100, ``},
		{Reserve, 201, `{"id":"r-1","status":"confirmed"}`},
		{Reserve, 201, `{"id":"r-1","status":""}`},
		{Confirm, 200, `{"id":"r-1","status":"reserved"}`},
		{Confirm, 200, `{"id":"r-1","status":"canceled"}`},
		{Cancel, 200, `{"id":"r-1","status":"confirmed"}`},
		{Extend, 200, `{"id":"r-1","status":"expired"}`},
		{Return, 200, `{"id":"r-1","status":"reserved"}`},
		{Restock, 200, `{"version":3}`},
		{Adjust, 200, `7`},
	} {
		a := ParseAnswer(c.kind, c.status, []byte(c.body))
		if a.Outcome != Odd || a.ID != "" || a.Code == "" {
			t.Errorf("%s %d %s: %+v", c.kind, c.status, c.body, a)
		}
	}
	if a := ParseAnswer(Read, 200, []byte(`"`+strings.Repeat("x", 9999)+`"`)); a.Outcome != Odd || len(a.Code) > 300 {
		t.Errorf("%d characters: %+v", len(a.Code), a)
	}
}
