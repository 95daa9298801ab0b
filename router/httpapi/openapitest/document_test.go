package openapitest

import (
	"net/http"
	"strings"
	"testing"
)

const sample = `{"paths":{"/a/{id}":{"get":{"responses":{
	"200":{"headers":{"Request-Id":{"$ref":"#/components/headers/Request-Id"}},
		"content":{"application/json":{"schema":{"$ref":"#/components/schemas/A"}},"text/plain":{"schema":{"type":"string"}},"image/*":{"schema":{"type":"string"}}}}}}}},
"components":{"headers":{"Request-Id":{"required":true}},
	"schemas":{"A":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}},
	"responses":{"NotFound":{"content":{"application/json":{"schema":{"type":"string"}}}}}}}`

// TestCheckFindsEveryFault holds answers against a document that are wrong in one
// way each, and right ones.
func TestCheckFindsEveryFault(t *testing.T) {
	for _, tc := range []struct {
		name            string
		method, path    string
		status          int
		id, media, body string
		want            string // in the error; empty: none
	}{
		{"right", "GET", "/a/{id}", 200, "r", "application/json", `{"n":1}`, ""},
		{"right text", "GET", "/a/{id}", 200, "r", "text/plain", "x", ""},
		{"right text with a parameter", "GET", "/a/{id}", 200, "r", "text/plain; charset=utf-8", "x", ""},
		{"right by a range", "GET", "/a/{id}", 200, "r", "image/png", "x", ""},
		{"right without a body", "HEAD", "/a/{id}", 200, "r", "application/json", "", ""},
		{"no path", "GET", "", 404, "r", "application/json", `"x"`, ""},
		{"no path, another body", "GET", "", 404, "r", "application/json", `1`, "want string"},
		{"another method", "PUT", "/a/{id}", 200, "r", "application/json", `{"n":1}`, "does not list status 200"},
		{"another status", "GET", "/a/{id}", 201, "r", "application/json", `{"n":1}`, "does not list status 201"},
		{"no header", "GET", "/a/{id}", 200, "", "application/json", `{"n":1}`, "the header Request-Id is missing"},
		{"another type", "GET", "/a/{id}", 200, "r", "application/problem+json", `{"n":1}`, "does not list application/problem+json"},
		{"no JSON", "GET", "/a/{id}", 200, "r", "application/json", `{`, "not JSON"},
		{"a field missing", "GET", "/a/{id}", 200, "r", "application/json", `{}`, "missing property"},
		{"a field too many", "GET", "/a/{id}", 200, "r", "application/json", `{"n":1,"m":2}`, "additional properties"},
		{"a field of another type", "GET", "/a/{id}", 200, "r", "application/json", `{"n":"1"}`, "want integer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc, err := Parse([]byte(sample))
			if err != nil {
				t.Fatal(err)
			}
			header := make(http.Header)
			header.Set("Content-Type", tc.media)
			if tc.id != "" {
				header.Set("Request-Id", tc.id)
			}
			err = doc.Check(Answer{Method: tc.method, Path: tc.path, Status: tc.status, Header: header, Body: []byte(tc.body)})
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"{", "[]"} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}
