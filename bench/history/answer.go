package history

import (
	"encoding/json"
	"net/http"
	"time"
)

// Answer is what an HTTP answer says of a reservation.
type Answer struct {
	Outcome Outcome
	ID      string
	Expires time.Time // zero: it does not say
	Code    string    // of a refusal
}

// statuses and codes are the words of the API for what became of a reservation.
var (
	statuses = map[string]Outcome{"reserved": Held, "confirmed": Sold, "canceled": Canceled, "expired": Expired}
	codes    = map[string]Outcome{
		"insufficient-stock": Short, "reservation-not-found": NotFound,
		"reservation-expired": Expired, "reservation-canceled": Canceled, "reservation-confirmed": Sold,
	}
)

// ParseAnswer reads the answer to a call about one reservation. status 0 means that
// there was none.
func ParseAnswer(kind Kind, status int, body []byte) (a Answer) {
	switch status {
	case 0, http.StatusGatewayTimeout, http.StatusInternalServerError:
		return Answer{Outcome: Unknown}
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return Answer{Outcome: NotDone}
	}
	if status >= http.StatusBadRequest {
		return parseProblem(body)
	}
	var document struct {
		ID        string    `json:"id"`
		Status    string    `json:"status"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	if json.Unmarshal(body, &document) != nil {
		return Answer{Outcome: Unknown} // it was cut off
	}
	a = Answer{Outcome: statuses[document.Status], ID: document.ID, Expires: document.ExpiresAt}
	if kind == Reserve {
		a.Outcome = Held // the first answer, also when it is repeated later
	}
	return a
}

// parseProblem reads a refusal.
func parseProblem(body []byte) (a Answer) {
	var document struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(body, &document) // without a code it is one that nobody judges
	a.Code = document.Code
	if a.Outcome = codes[a.Code]; a.Outcome == "" {
		a.Outcome = Refused
	}
	return a
}
