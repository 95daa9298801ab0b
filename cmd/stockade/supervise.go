package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	// readyPoll is how often a process that starts looks whether it is ready:
	// well below what a person or a test notices.
	readyPoll = 10 * time.Millisecond
	// waitingEvery is how often a start that takes long says what it waits for.
	waitingEvery = 5 * time.Second
)

// supervisor runs the services of one process from their start to their end.
type supervisor struct {
	log      *slog.Logger
	level    slog.LevelVar
	settings settings
	services []*service
	failures chan error
}

// newSupervisor makes a supervisor that logs to w.
func newSupervisor(s settings, w io.Writer) *supervisor {
	v := &supervisor{settings: s, failures: make(chan error)}
	v.log = newLogger(s, w, &v.level)
	return v
}

// run starts the services with start, calls whenReady as soon as all of them
// are ready, and stops them when ctx ends (which is no error), when one of them
// can't go on, or when start or whenReady fails.
func (v *supervisor) run(ctx context.Context, start, whenReady func(context.Context) error) error {
	if err := v.forgetAddresses(); err != nil {
		return err
	}
	err := v.untilEnd(ctx, start, whenReady)
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		_ = v.stop() // why it ends says more
		return err
	}
	// It was asked to stop, perhaps while it was starting.
	v.log.Info("stopping")
	if err := v.stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	v.log.Info("stopped")
	return nil
}

// untilEnd is run without the stop.
func (v *supervisor) untilEnd(ctx context.Context, start, whenReady func(context.Context) error) error {
	// The start ends early when a service fails or a stop is asked for.
	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	started := make(chan error, 1)
	go func() { started <- v.start(starting, start, whenReady) }()
	select {
	case err := <-started:
		if err != nil {
			return err
		}
	case err := <-v.failures:
		cancel(err)
		// The start has to be over before the services are stopped.
		return errors.Join(v.fatal(err), <-started)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-v.failures:
		return v.fatal(err)
	}
}

// fatal logs why the process ends: in the log, because it happens to a running
// service, whose log is what its operators look at.
func (v *supervisor) fatal(err error) error {
	v.log.Error("can't go on: " + err.Error())
	return errors.Join(errReported, err)
}

// start brings the services up and tells the world.
func (v *supervisor) start(ctx context.Context, start, whenReady func(context.Context) error) error {
	if err := start(ctx); err != nil {
		return err
	}
	if err := v.awaitReady(ctx); err != nil {
		return err
	}
	if err := whenReady(ctx); err != nil {
		return err
	}
	v.notify(daemon.SdNotifyReady)
	if path := v.settings.text("addr-file"); path != "" {
		return v.services[0].addrs.write(path)
	}
	return nil
}

// awaitReady waits until every service is ready.
func (v *supervisor) awaitReady(ctx context.Context) error {
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	said := time.Now()
	for {
		missing := v.missing(ctx)
		if missing == "" {
			return nil
		}
		if time.Since(said) >= waitingEvery {
			said = time.Now()
			v.log.Info("waiting: " + missing)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// missing says what the first service that is not ready waits for; "" for all
// are ready.
func (v *supervisor) missing(ctx context.Context) string {
	for _, s := range v.services {
		state := s.health.Ready(ctx)
		for _, shard := range state.Shards {
			if !shard.Ready {
				return fmt.Sprintf("shard %d: %s", shard.Shard, shard.Missing)
			}
		}
	}
	return ""
}

// notify tells systemd, if it asked to be told (Type=notify).
func (v *supervisor) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		v.log.Warn("can't tell systemd about this service", "state", state, "error", err)
	}
}

// stop stops all services at once, within the time that the settings give.
func (v *supervisor) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), v.settings.span("stop-timeout"))
	defer cancel()
	v.notify(daemon.SdNotifyStopping)
	if len(v.services) > 1 && !v.settings.given("log-level") {
		// The nodes of dev see each other go and would warn of it.
		v.level.Set(slog.LevelError)
	}
	return errors.Join(v.all(ctx, (*service).drain), v.all(ctx, (*service).close))
}

// all does one step of the stop with all services at once.
func (v *supervisor) all(ctx context.Context, step func(*service, context.Context) error) error {
	var running sync.WaitGroup
	errs := make([]error, len(v.services))
	for i, s := range v.services {
		running.Go(func() { errs[i] = step(s, ctx) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// forgetAddresses removes the address file of an earlier run, so that whoever
// waits for it can't take that for this one's.
func (v *supervisor) forgetAddresses() error {
	path := v.settings.text("addr-file")
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old address file (--addr-file): %w", err)
	}
	return nil
}
