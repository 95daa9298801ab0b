package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"stockade/router/api"
)

// problem is an error answer of the API.
type problem struct {
	api.Problem
	document []byte // as it was received
}

// problemError makes an error of an error answer.
func problemError(status string, body []byte) error {
	p := &problem{document: body}
	if json.Unmarshal(body, &p.Problem) != nil || p.Code == "" {
		return fmt.Errorf("the server answered %s", status)
	}
	return p
}

// Error puts the problem into one line, in the words of the API.
func (p *problem) Error() string { return p.line(strings.NewReplacer(), fieldOfAPI) }

// line puts the problem into one line: each fault of the request, else the
// detail, which is a whole sentence.
func (p *problem) line(words *strings.Replacer, name func(api.FieldError) string) string {
	var faults []string
	for _, e := range p.Errors {
		if e.Detail != p.Detail { // a refusal repeats it, to say where
			faults = append(faults, strings.TrimSpace(name(e)+" "+words.Replace(e.Detail)))
		}
	}
	text := strings.Join(faults, "; ")
	if text == "" {
		text = words.Replace(p.Detail)
	}
	return fmt.Sprintf("%s (stockade explain %s)", text, p.Code)
}

func fieldOfAPI(e api.FieldError) string {
	switch {
	case e.Header != "":
		return "the header " + e.Header
	case e.Parameter != "":
		return "the parameter " + e.Parameter
	case e.Pointer != nil && *e.Pointer != "":
		return *e.Pointer
	}
	return "the request:"
}

// vocabulary says in the words of one command what the API says in its own:
// flags and arguments instead of headers, parameters and fields.
type vocabulary struct {
	flags *pflag.FlagSet
	key   string // that the command made and the user does not know; empty: none
}

// flagHeaders are the headers that flags become.
var flagHeaders = map[string]string{
	"idempotency-key": "Idempotency-Key", "if-match": "If-Match", "create-only": "If-None-Match",
}

// arguments are the names of what is no flag, as usage lines have them.
var arguments = map[string]string{"sku": "SKU", "quantity": "UNITS"}

// line puts a problem into one line.
func (v vocabulary) line(p *problem) string {
	again := "Run the same command again"
	if v.key != "" {
		again = "Run it again with --idempotency-key " + v.key + " (without, it may count twice)"
	}
	pairs := []string{
		"If-None-Match: *", "--create-only", "the new ETag", "its new version",
		"use /restock", `use "stockade sku restock"`, "use /adjust", `use "stockade sku adjust"`,
		"Send the same request again, with the same Idempotency-Key if it had one", again,
	}
	v.flags.VisitAll(func(f *pflag.Flag) {
		if header, ok := flagHeaders[f.Name]; ok {
			pairs = append(pairs, header, "--"+f.Name)
		}
		// A name without an underscore may be just a word.
		if field := strings.ReplaceAll(f.Name, "-", "_"); field != f.Name {
			pairs = append(pairs, field, "--"+f.Name)
		}
	})
	return p.line(strings.NewReplacer(pairs...), v.name)
}

// name is what the user typed to say what a fault is about.
func (v vocabulary) name(e api.FieldError) string {
	if e.Header != "" {
		return v.flagOf(e, func(flag string) bool { return flagHeaders[flag] == e.Header })
	}
	field, inside := e.Parameter, ""
	if e.Pointer != nil {
		field, inside, _ = strings.Cut(strings.TrimPrefix(*e.Pointer, "/"), "/")
	}
	if argument, ok := arguments[field]; ok {
		return argument
	}
	name := v.flagOf(e, func(flag string) bool { return strings.ReplaceAll(flag, "-", "_") == field })
	if inside != "" {
		name += " at /" + inside
	}
	return name
}

// flagOf finds the flag that a fault is about; without one it keeps the words of
// the API.
func (v vocabulary) flagOf(e api.FieldError, is func(flag string) bool) string {
	name := fieldOfAPI(e)
	v.flags.VisitAll(func(f *pflag.Flag) {
		if is(f.Name) {
			name = "--" + f.Name
		}
	})
	return name
}

// said is a problem in the words of the command that met it.
type said struct {
	err  error
	line string
}

// Error implements error.
func (s said) Error() string { return s.line }

// Unwrap gives the error itself, which is or holds a problem.
func (s said) Unwrap() error { return s.err }

// inItsWords puts what the API says into the words of a command. key is one that
// the command made for the request, if it did.
func inItsWords(cmd *cobra.Command, key string, err error) error {
	var p *problem
	if !errors.As(err, &p) {
		return err
	}
	return said{err, vocabulary{cmd.Flags(), key}.line(p)}
}

// failure is an error that is no answer of the API, as a problem document.
type failure struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

// withDocuments makes a command that has --json report its errors as problem
// documents too, one line each on standard error. A command line that can't be
// understood is reported as ever: perhaps it is --json that is not understood.
func withDocuments(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		var usage *usageError
		asJSON, _ := cmd.Flags().GetBool("json") // false for a command that has none
		if err == nil || !asJSON || errors.As(err, &usage) {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", document(err))
		return errors.Join(errReported, err)
	}
}

// document is an error as a problem document: the one that was received, if
// there is one, with the key to repeat the request by if the command made it.
func document(err error) []byte {
	var p *problem
	var k *keyed
	var line bytes.Buffer
	if errors.As(err, &p) && json.Compact(&line, p.document) == nil {
		if errors.As(err, &k) {
			return append(line.Bytes()[:line.Len()-1], `,"idempotency_key":"`+k.key+`"}`...)
		}
		return line.Bytes()
	}
	encoded, _ := json.Marshal(failure{"about:blank", "The command failed", err.Error()}) // strings can be encoded
	return encoded
}
