package api

// ProblemType is the media type of a Problem (RFC 9457).
const ProblemType = "application/problem+json"

// Problem is the body of every answer that is not a success.
type Problem struct {
	Type      string `json:"type"`      // a URL whose page explains Code
	Title     string `json:"title"`     // the same for every problem with this Code
	Status    int    `json:"status"`    // the HTTP status
	Detail    string `json:"detail"`    // what happened here and what to do
	Code      string `json:"code"`      // for programs
	Retryable bool   `json:"retryable"` // the same request may be sent again, with the same key

	SKU         string       `json:"sku,omitempty"`
	Requested   *int64       `json:"requested,omitzero"`
	Available   *int64       `json:"available,omitzero"`
	Limit       *int64       `json:"limit,omitzero"`
	Shard       *int         `json:"shard,omitzero"`
	Since       Time         `json:"since,omitzero"` // since when the shard can't be used
	Reservation *Reservation `json:"reservation,omitempty"`
	Errors      []FieldError `json:"errors,omitempty"`
	// Shards is part of the answer of /readyz?verbose=1.
	Shards []ShardReadiness `json:"shards,omitempty"`
}

// FieldError says what is wrong with one part of a request. Exactly one of
// Pointer, Header and Parameter is set.
type FieldError struct {
	Pointer   *string `json:"pointer,omitzero"`    // JSON Pointer into the body; "" is all of it
	Header    string  `json:"header,omitempty"`    // name of a request header
	Parameter string  `json:"parameter,omitempty"` // name of a path or query parameter
	Detail    string  `json:"detail"`
}

// Explanation is one kind of problem in words, as /problems/{code} gives it.
type Explanation struct {
	Code      string `json:"code"`
	Status    int    `json:"status"`
	Title     string `json:"title"`
	Retryable bool   `json:"retryable"`
	What      string `json:"what"`  // what happened
	Done      string `json:"done"`  // whether anything was changed
	Retry     string `json:"retry"` // whether to send it again
	Do        string `json:"do"`    // what to do
}

// Explanations is the index of problems, as /problems gives it.
type Explanations struct {
	Problems []Explanation `json:"problems"`
}
