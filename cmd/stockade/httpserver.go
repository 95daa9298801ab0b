package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Limits of both HTTP servers.
const (
	// readHeaderTimeout ends connections that send their headers one byte at a
	// time; an honest client needs a round trip or two.
	readHeaderTimeout = 5 * time.Second
	// readTimeout bounds reading a whole request: 4 MiB, the largest body, at
	// one Mbit/s.
	readTimeout = 35 * time.Second
	// idleTimeout is above the minute after which load balancers drop idle
	// connections, so that it is them who close and no request meets a
	// connection that is just being closed.
	idleTimeout = 120 * time.Second
	// maxHeaderBytes has room for the headers that the API knows and those that
	// proxies add. The server allows 4 KiB more than this.
	maxHeaderBytes = 16 << 10
)

// Limits in which the two servers differ.
const (
	// dataWriteTimeout is beyond the longest deadline a request may ask for
	// (30 s), after which the answer is written at once.
	dataWriteTimeout = 45 * time.Second
	// opsWriteTimeout lets a profile of half a minute through, and a page of
	// SKUs over a slow line.
	opsWriteTimeout = 90 * time.Second
	// A connection costs 10 to 20 KiB. Clients beyond these wait to be accepted.
	maxDataConns = 16384
	maxOpsConns  = 256
)

// httpServer is one listening HTTP server. Its goroutine runs from start until
// stop has returned.
type httpServer struct {
	name     string
	server   *http.Server
	listener net.Listener
	failed   chan error // gets the reason when serving ends by itself
}

func newHTTPServer(name string, l net.Listener, h http.Handler, log *slog.Logger) *httpServer {
	writeTimeout, conns := dataWriteTimeout, maxDataConns
	if name == "ops" {
		writeTimeout, conns = opsWriteTimeout, maxOpsConns
	}
	return &httpServer{
		name:     name,
		listener: netutil.LimitListener(l, conns),
		failed:   make(chan error, 1),
		server: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			// What the server itself has to say is about single connections.
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
}

// start serves until stop. It returns at once.
func (s *httpServer) start() {
	go func() {
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("the %s server can't go on: %w", s.name, err)
		}
	}()
}

// stop takes no more connections, waits for the requests under way until ctx
// ends, and then cuts them off: their clients see a broken connection, which
// means "unknown".
func (s *httpServer) stop(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	return err
}
