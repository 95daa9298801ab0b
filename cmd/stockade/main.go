// Command stockade is the one program of Stockade: it runs nodes and routers,
// and it is the command line to talk to them.
//
// This package parses, wires, runs and stops; what it runs is in the other
// packages. Read main.go first, then dev.go and node.go (what runs), assemble.go
// (how it is wired) and config.go (where settings come from).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1 // what was asked for could not be done; standard error has one line that says why
	exitUsage = 2 // the command line can't be understood
)

func main() {
	os.Exit(withSignals(func(ctx context.Context) int {
		return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}))
}

// withSignals runs f with a context that ends at the first SIGINT or SIGTERM,
// which asks for a graceful stop. From then on signals do again what they do by
// themselves, so a second one ends the process at once.
func withSignals(f func(context.Context) int) int {
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release()
	context.AfterFunc(ctx, release)
	return f(ctx)
}

// run does what args say until it is done or ctx ends, and gives the exit code.
// Errors go to stderr, one line each.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "stockade: %v\nTry: %s --help\n", err, usage.command)
		return exitUsage
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(stderr, "stockade: %v\n", err)
	}
	return exitError
}

// errReported marks an error that stands in the log already.
var errReported = errors.New("reported")

// usageError is a command line that can't be understood.
type usageError struct {
	command string // whose help would help
	reason  string
}

// Error implements error.
func (e *usageError) Error() string { return e.reason }
