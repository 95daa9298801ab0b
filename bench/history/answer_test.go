package history

import "testing"

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
		{Reserve, 500, ``, Unknown, ""},
		{Reserve, 0, ``, Unknown, ""},
	} {
		a := ParseAnswer(c.kind, c.status, []byte(c.body))
		if a.Outcome != c.want || a.ID != c.id || a.Expires.IsZero() != (c.body != reserved) {
			t.Errorf("%s %d %s: %+v", c.kind, c.status, c.body, a)
		}
	}
}
