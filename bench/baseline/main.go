// Command baseline is an HTTP server whose handler does nothing: it reads the
// body and answers a constant reservation. What Stockade reaches is measured
// beside it, on the same HTTP stack, in the same run: the ratio tells what the
// work behind the handler costs, whatever the machine.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

// answer has the length of a real reservation.
const answer = `{"id":"r-000g000000005a8x","status":"reserved","lines":[{"sku":"demo","quantity":1}],` +
	`"created_at":"2026-01-01T00:00:00.000Z","expires_at":"2026-01-01T00:10:00.000Z"}`

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: baseline ADDR")
	}
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(os.Stdout, l.Addr())
	server := &http.Server{Handler: http.HandlerFunc(nothing), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.Serve(l))
}

// nothing answers without having done anything.
func nothing(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client has gone
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Location", "/v1/reservations/r-000g000000005a8x")
	h.Set("Request-Id", "32pkbbobfkehl1njdgwqca0g88")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer)
}
