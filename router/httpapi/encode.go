package httpapi

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"stockade/allocator"
	"stockade/router"
	"stockade/router/api"
)

// The documents that most answers consist of are written by hand: a reservation
// and a problem. A test holds them against the types of package api. The other
// documents are rare and go through the json package.

// appendString appends a JSON string. Bytes that are not UTF-8, which the
// decoder lets nobody send, are replaced.
func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

// appendReservation appends a reservation as api.Reservation has it.
func appendReservation(b []byte, ids allocator.IDMark, r *allocator.Reservation) []byte {
	b = append(b, `{"id":"`...)
	b = ids.AppendFormat(b, r.ID)
	b = append(b, `","status":"`...)
	b = append(b, r.Status.String()...)
	b = append(b, `","lines":[`...)
	for i := range r.Lines {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"sku":`...)
		b = appendString(b, string(r.Lines[i].SKU))
		b = append(b, `,"quantity":`...)
		b = strconv.AppendInt(b, int64(r.Lines[i].Quantity), 10)
		b = append(b, '}')
	}
	b = append(b, ']')
	b = appendOptional(b, `,"buyer_id":`, r.BuyerID)
	b = appendOptional(b, `,"reference":`, r.Reference)
	b = appendTime(b, `,"created_at":`, r.Created)
	b = appendTime(b, `,"expires_at":`, r.Expires)
	if r.Ended != 0 {
		b = appendTime(b, `,"ended_at":`, r.Ended)
	}
	return append(b, '}')
}

// appendOptional appends a string field unless it is empty.
func appendOptional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

// appendTime appends a time field.
func appendTime(b []byte, name string, at allocator.Millis) []byte {
	b = append(append(b, name...), '"')
	b, _ = api.Time(at).AppendText(b)
	return append(b, '"')
}

// appendNumber appends a number field unless there is none.
func appendNumber(b []byte, name string, n *int64) []byte {
	if n == nil {
		return b
	}
	return strconv.AppendInt(append(b, name...), *n, 10)
}

// appendProblem appends a problem as api.Problem has it.
func appendProblem(b []byte, p *api.Problem) []byte {
	b = appendString(append(b, `{"type":`...), p.Type)
	b = appendString(append(b, `,"title":`...), p.Title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(p.Status), 10)
	b = appendString(append(b, `,"detail":`...), p.Detail)
	b = appendString(append(b, `,"code":`...), p.Code)
	b = strconv.AppendBool(append(b, `,"retryable":`...), p.Retryable)
	b = appendOptional(b, `,"sku":`, p.SKU)
	b = appendNumber(b, `,"requested":`, p.Requested)
	b = appendNumber(b, `,"available":`, p.Available)
	b = appendNumber(b, `,"limit":`, p.Limit)
	if p.Shard != nil {
		b = strconv.AppendInt(append(b, `,"shard":`...), int64(*p.Shard), 10)
	}
	if p.Since != 0 {
		b = appendTime(b, `,"since":`, allocator.Millis(p.Since))
	}
	if p.Reservation != nil {
		b = appendDocument(append(b, `,"reservation":`...), p.Reservation)
	}
	if len(p.Errors) > 0 {
		b = appendDocument(append(b, `,"errors":`...), p.Errors)
	}
	if len(p.Shards) > 0 {
		b = appendDocument(append(b, `,"shards":`...), p.Shards)
	}
	return append(b, '}')
}

// appendDocument appends any other document of package api. These types can
// always be written, so that a failure is a fault of the program.
func appendDocument(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return append(b, text...)
}

// appendDone appends the result of a batch's item that went well.
func appendDone(b []byte, status int, ids allocator.IDMark, res *router.Reserved) []byte {
	b = strconv.AppendInt(append(b, `{"status":`...), int64(status), 10)
	if res.Replayed {
		b = append(b, `,"replayed":true`...)
	}
	b = appendReservation(append(b, `,"reservation":`...), ids, &res.Reservation)
	return append(b, '}')
}

// appendFailed appends the result of a batch's item that did not.
func appendFailed(b []byte, p *api.Problem) []byte {
	b = strconv.AppendInt(append(b, `{"status":`...), int64(p.Status), 10)
	b = appendProblem(append(b, `,"problem":`...), p)
	return append(b, '}')
}

// reservationView is a reservation as the API shows it.
func reservationView(ids allocator.IDMark, r *allocator.Reservation) api.Reservation {
	lines := make([]api.Line, len(r.Lines))
	for i, l := range r.Lines {
		lines[i] = api.Line{SKU: string(l.SKU), Quantity: int64(l.Quantity)}
	}
	return api.Reservation{
		ID:        ids.Format(r.ID),
		Status:    api.Status(r.Status.String()),
		Lines:     lines,
		BuyerID:   r.BuyerID,
		Reference: r.Reference,
		CreatedAt: api.Time(r.Created),
		ExpiresAt: api.Time(r.Expires),
		EndedAt:   api.Time(r.Ended),
	}
}
