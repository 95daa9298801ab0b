package history

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Answer is what an HTTP answer says of a reservation, or of a change of the stock.
type Answer struct {
	Outcome Outcome
	ID      string
	Has     int       // units that the reservation has; 0: none, or it does not say
	Expires time.Time // zero: it does not say
	Code    string    // of a refusal; of an odd answer what it was
}

// statuses and codes are the words of the API for what became of a reservation.
var (
	statuses = map[string]Outcome{"reserved": Held, "confirmed": Sold, "canceled": Canceled, "expired": Expired}
	codes    = map[string]Outcome{
		"insufficient-stock": Short, "reservation-not-found": NotFound, "reservation-not-confirmed": NotSold,
		"reservation-expired": Expired, "reservation-canceled": Canceled, "reservation-confirmed": Sold,
	}
)

// successes are what a call that was done may be answered. A reservation has its first
// answer also when it is repeated later; a confirmation may be repeated after a return.
var successes = map[Kind][]Outcome{
	Reserve: {Held},
	Confirm: {Sold, Returned},
	Cancel:  {Canceled, Expired},
	Extend:  {Held},
	Return:  {Sold, Returned},
	Read:    {Held, Sold, Returned, Canceled, Expired},
}

// ParseAnswer reads the answer to a call. status 0 means that there was none. What is no
// answer of the API is Odd, so that it is noticed: a client that took it for a success, or
// for nothing, would hide it.
func ParseAnswer(kind Kind, status int, body []byte) Answer {
	switch {
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		return Answer{Outcome: NotDone}
	case status == http.StatusInternalServerError:
		return odd(status, body)
	case status == 0, status > http.StatusInternalServerError:
		return Answer{Outcome: Unknown}
	case status >= http.StatusBadRequest:
		return parseProblem(body)
	case status < http.StatusOK, status >= http.StatusMultipleChoices:
		return odd(status, body)
	case !json.Valid(body):
		return Answer{Outcome: Unknown} // it was cut off
	case kind == Restock, kind == Adjust:
		return parseStock(status, body)
	}
	return parseReservation(kind, status, body)
}

// odd is what a client got that no Stockade may send.
func odd(status int, body []byte) Answer {
	return Answer{Outcome: Odd, Code: fmt.Sprintf("%d %.200q", status, body)}
}

// parseReservation reads a reservation. That it has no units any more is told from not
// saying how many.
func parseReservation(kind Kind, status int, body []byte) Answer {
	var document struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Lines  []struct {
			Quantity int `json:"quantity"`
		} `json:"lines"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return odd(status, body)
	}
	a := Answer{Outcome: statuses[document.Status], ID: document.ID, Expires: document.ExpiresAt}
	for _, l := range document.Lines {
		a.Has += l.Quantity
	}
	if a.Outcome == Sold && len(document.Lines) > 0 && a.Has == 0 {
		a.Outcome = Returned
	}
	if a.ID == "" || !slices.Contains(successes[kind], a.Outcome) {
		return odd(status, body)
	}
	return a
}

// parseStock reads the answer to a change of a SKU's stock, which shows at least the SKU.
func parseStock(status int, body []byte) Answer {
	var document struct {
		SKU string `json:"sku"`
	}
	if err := json.Unmarshal(body, &document); err != nil || document.SKU == "" {
		return odd(status, body)
	}
	return Answer{Outcome: Done}
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
