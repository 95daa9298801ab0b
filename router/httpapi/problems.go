package httpapi

import (
	"net/http"

	"stockade/allocator"
	"stockade/router/api"
)

// Codes of problems that are not outcomes of a command.
const (
	codeOK               = "ok" // in metrics: no problem
	codeInvalid          = "invalid-request"
	codeNoPath           = "path-not-found"
	codeMethod           = "method-not-allowed"
	codeCrossOrigin      = "cross-origin-refused"
	codeShardUnavailable = "shard-unavailable"
	codeStockUnreachable = "stock-unreachable"
	codeOverloaded       = "overloaded"
	codeDeadline         = "deadline-exceeded"
	codeNotReady         = "not-ready"
	codeNotLive          = "not-live"
	codeUnknownOutcome   = "outcome-unknown"
	codeInternal         = "internal-error"
)

// Sentences that many rows share.
const (
	nothingChanged = "Nothing was changed."
	dontRetry      = "No: the same request would be refused again."
	yourDecision   = "Not as it is: first decide in your business code what to do."
	retryLater     = "Yes: wait as long as the Retry-After header says, then send the same request with the same Idempotency-Key."
)

// problem is one row of the table: how the API answers a code, and how it
// explains it. The table is the only place that knows; the pages under
// /problems/, the command line's explanations and the metrics read it.
type problem struct {
	api.Explanation
	shows   shows  // which facts of a refusal the answer carries
	field   string // the field of the body that is at fault, if the code says so
	outcome allocator.Code
}

// shows is a set of facts.
type shows uint8

const (
	showSKU shows = 1 << iota
	showRequested
	showAvailable
	showLimit
	showReservation
)

// problems is the table, refusals first, in their order of precedence.
var problems = append(refusals, failures...)

// byCode finds a row by its code.
var byCode = func() map[string]*problem {
	m := make(map[string]*problem, len(problems))
	for i := range problems {
		m[problems[i].Code] = &problems[i]
	}
	return m
}()

// byOutcome finds a row by the outcome of a command; nil: it never leaves the cluster.
var byOutcome = func() []*problem {
	t := make([]*problem, len(allocator.Codes()))
	for i := range refusals {
		t[refusals[i].outcome] = byCode[refusals[i].Code]
	}
	return t
}()

// refusal builds a row for an outcome of a command.
func refusal(outcome allocator.Code, status int, s shows, e api.Explanation) problem {
	e.Code, e.Status = outcome.String(), status
	return problem{Explanation: e, shows: s, outcome: outcome}
}

// at names the field of the body that a refusal speaks of.
func (p problem) at(field string) problem {
	p.field = field
	return p
}

// failure builds a row for a request that came to no outcome.
func failure(code string, status int, e api.Explanation) problem {
	e.Code, e.Status = code, status
	return problem{Explanation: e}
}

// failures are the problems of requests that came to no outcome.
var failures = []problem{
	failure(codeInvalid, http.StatusBadRequest, api.Explanation{
		Title: "The request is not valid",
		What:  "The body, a header or a parameter is not what this endpoint takes. errors lists what is wrong and where: pointer is a JSON Pointer into the body (empty: all of it), header and parameter are names.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Mend what errors names. The endpoint's description is in /openapi.json on the ops port.",
	}),
	failure(codeNoPath, http.StatusNotFound, api.Explanation{
		Title: "There is nothing at this path",
		What:  "No endpoint of this port has that path.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Check the path and the port: selling is on the data port (8400), administration on the ops port (8401).",
	}),
	failure(codeMethod, http.StatusMethodNotAllowed, api.Explanation{
		Title: "The path does not take this method",
		What:  "The path exists, but not for the request's method.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Use one of the methods in the Allow header.",
	}),
	failure(codeCrossOrigin, http.StatusForbidden, api.Explanation{
		Title: "A web page of another origin may not do this",
		What:  "A browser sent a request that changes something on behalf of a page from another origin.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Call Stockade from your server, not from a page.",
	}),
	failure(codeOverloaded, http.StatusServiceUnavailable, api.Explanation{
		Title: "Too much work is waiting", Retryable: true,
		What:  "A queue on the request's way is full, so it was refused before anything was done with it.",
		Done:  nothingChanged,
		Retry: retryLater,
		Do:    "Retry with increasing pauses. If it lasts, send fewer requests at once or use the batch endpoints; stockade_http_in_flight and the queue metrics show where work waits.",
	}),
	failure(codeDeadline, http.StatusServiceUnavailable, api.Explanation{
		Title: "There was not enough time", Retryable: true,
		What:  "The time that the request gave itself (X-Timeout-Ms) ran out before it was sent to a shard.",
		Done:  nothingChanged,
		Retry: retryLater,
		Do:    "Give it more time, or none: without the header it is two seconds.",
	}),
	failure(codeShardUnavailable, http.StatusServiceUnavailable, api.Explanation{
		Title: "A shard can't be used now", Retryable: true,
		What:  "The shard that decides this request has no leader that serves: an election is under way, or a majority of its replicas can't be reached. shard says which, since says since when.",
		Done:  nothingChanged,
		Retry: retryLater,
		Do:    "An election takes about a second. If it lasts longer, look at /readyz?verbose=1 and GET /v1/cluster on the ops port and bring the missing nodes back.",
	}),
	failure(codeStockUnreachable, http.StatusServiceUnavailable, api.Explanation{
		Title: "A shard that may hold the stock can't be reached", Retryable: true,
		What:  "There are not enough units at hand, and a shard that may have the rest can't be asked. So neither a sale nor a refusal would be right. shard says which, since says since when.",
		Done:  nothingChanged,
		Retry: retryLater,
		Do:    "Retry, or ask for fewer units. If it lasts, bring back the nodes of the shard: see GET /v1/cluster on the ops port.",
	}),
	failure(codeNotReady, http.StatusServiceUnavailable, api.Explanation{
		Title: "The node is not ready", Retryable: true,
		What:  "A probe asked whether the node serves, and it does not. /readyz?verbose=1 says what is missing and since when.",
		Done:  nothingChanged,
		Retry: "Yes: probes are repeated anyway.",
		Do:    "Wait, and send requests to other nodes. If it lasts, look at the shards that are listed as missing.",
	}),
	failure(codeNotLive, http.StatusServiceUnavailable, api.Explanation{
		Title: "The process needs a restart",
		What:  "The liveness probe found something that only a restart mends, such as a disk that can't be written. An election is never a reason.",
		Done:  nothingChanged,
		Retry: "Probes are repeated anyway; the answer won't change before a restart.",
		Do:    "Let the supervisor restart the process, and read its log.",
	}),
	failure(codeUnknownOutcome, http.StatusGatewayTimeout, api.Explanation{
		Title: "It is not known whether this was done", Retryable: true,
		What:  "The request was handed to its shard, but its outcome did not come back in time.",
		Done:  "Perhaps: it may have been done, may still be done, or never.",
		Retry: "Yes: send the same request with the same Idempotency-Key until another answer comes. It takes effect at most once.",
		Do:    "Retry. Without an Idempotency-Key a repeated reservation or return may count twice; a reservation that nobody knows of ends by itself when its time runs out.",
	}),
	failure(codeInternal, http.StatusInternalServerError, api.Explanation{
		Title: "Stockade made a mistake",
		What:  "A fault of the program, not of the request. The log has a line with the answer's Request-Id.",
		Done:  "Perhaps: treat it like an unknown outcome.",
		Retry: "Once, with the same Idempotency-Key. If it happens again, don't.",
		Do:    "Report it with the Request-Id and the log line.",
	}),
}
