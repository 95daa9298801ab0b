package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"stockade/router/api"
)

// answering is an API that gives everybody the same problem; it notes the last key.
func answering(t *testing.T, p api.Problem, key *string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*key = r.Header.Get("Idempotency-Key")
		w.Header().Set("Content-Type", api.ProblemType)
		w.WriteHeader(p.Status)
		_ = json.NewEncoder(w).Encode(p)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestUnknownOutcomeCanBeRepeated meets an outcome that nobody knows: whoever let
// the command make the key must learn it, or could never ask again.
func TestUnknownOutcomeCanBeRepeated(t *testing.T) {
	var sent string
	url := answering(t, api.Problem{
		Status: http.StatusGatewayTimeout, Code: "outcome-unknown", Retryable: true,
		Detail: "It is not known. Send the same request again, with the same Idempotency-Key if it had one, until another answer comes.",
	}, &sent)
	args := []string{"sku", "restock", "demo", "5", "--ops-url", url}
	r := runArgs(t, args...)
	r.want(t, exitError, "(without, it may count twice), until another answer comes.", "(stockade explain outcome-unknown)")
	told := regexp.MustCompile(`Run it again with --idempotency-key (\S+) \(`).FindStringSubmatch(r.stderr)
	if sent == "" || told == nil || told[1] != sent {
		t.Errorf("the key was %q, and the error says %s", sent, r.stderr)
	}
	r = runArgs(t, append(args, "--idempotency-key", "mine")...)
	r.want(t, exitError)
	if sent != "mine" || strings.Contains(r.stderr, "--idempotency-key") {
		t.Errorf("the key was %q, and the error says %s", sent, r.stderr)
	}
	r = runArgs(t, append(args, "--json")...)
	r.want(t, exitError, `"code":"outcome-unknown"`, `"idempotency_key":"`+sent+`"`)
	// What is no problem document: nobody knows either.
	r = runArgs(t, "sku", "restock", "demo", "5", "--ops-url", "http://127.0.0.1:1", "--json")
	r.want(t, exitError, `"type":"about:blank"`, "--idempotency-key ")
}

// TestRefusalIsSaidOnce meets a refusal that names a field and says the same of it.
func TestRefusalIsSaidOnce(t *testing.T) {
	var key string
	field := "/quantity"
	url := answering(t, api.Problem{
		Status: http.StatusBadRequest, Code: "some-code", Title: "No", Detail: "That is too much.",
		Errors: []api.FieldError{{Pointer: &field, Detail: "That is too much."}},
	}, &key)
	r := runArgs(t, "sku", "restock", "demo", "5", "--ops-url", url)
	r.want(t, exitError)
	if want := "stockade: That is too much. (stockade explain some-code)\n"; r.stderr != want {
		t.Errorf("it says %q, want %q", r.stderr, want)
	}
}
