package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listen opens a TCP listener for a setting, and says in one sentence what is
// wrong when that fails.
func listen(ctx context.Context, name, addr string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, cannotListen(name, addr, err)
	}
	return l, nil
}

// tryListen opens a port, TCP and UDP, and closes it again.
func tryListen(ctx context.Context, name, addr string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return cannotListen(name, addr, err)
	}
	packets, err := config.ListenPacket(ctx, "udp", l.Addr().String())
	if err != nil {
		err = cannotListen(name, addr, err)
	} else {
		err = packets.Close()
	}
	return errors.Join(err, l.Close())
}

// cannotListen says what to do about a port that can't be opened.
func cannotListen(name, addr string, err error) error {
	advice := "check the address"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		advice = "the port is in use: stop the process that has it, or choose another port (0 picks a free one)"
	case errors.Is(err, syscall.EACCES):
		advice = "this user may not use the port: choose one above 1023"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		advice = "this machine does not have the address: choose one of its own, or 0.0.0.0 for all"
	}
	return fmt.Errorf("can't listen on %s (--%s): %s: %w", addr, name, advice, err)
}

// checkReach refuses addresses that other machines can reach: nothing here asks
// who is calling, so whoever reaches a port may sell and administer.
func checkReach(s settings, names ...string) error {
	if s.yes("insecure") {
		return nil
	}
	for _, name := range names {
		if addr := s.text(name); !isLoopback(addr) {
			return fmt.Errorf("--%s %s can be reached from other machines, and there are no TLS and no tokens yet to protect it: use a loopback address such as 127.0.0.1, or pass --insecure if everyone on the network may be trusted", name, addr)
		}
	}
	return nil
}

// isLoopback tells whether only this machine can reach a listen address. Names
// other than localhost are not looked up: what they mean may change.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
