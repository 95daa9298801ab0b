package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"stockade/router/api"
)

func newSKUCommand() *cobra.Command {
	group := &cobra.Command{
		Use:     "sku",
		Short:   "Create, look at and change stock",
		GroupID: "use",
		Long: `Create, look at and change stock through the administration API of a running
node (--ops-url or STOCKADE_OPS_URL). With --json answers are printed as they come,
and errors as problem documents, one line each, on standard error.`,
		Example: `  stockade sku put demo --on-hand 1000 --max-per-buyer 2
  stockade sku get demo
  stockade sku availability demo --strong
  stockade sku restock demo 500 --reference delivery-4711
  stockade sku audit demo --json`,
	}
	group.AddCommand(
		newSKUPutCommand(), newSKUGetCommand(), newSKUListCommand(), newSKUAvailabilityCommand(),
		newSKURestockCommand(), newSKUAdjustCommand(),
		newSKUPauseCommand("pause", "Stop selling a SKU", `Stop selling a SKU, and say since when no shard sells it any more. Open reservations
can still be confirmed, canceled and extended.`),
		newSKUPauseCommand("resume", "Sell a paused SKU again", `Sell a paused SKU again, and say since when all shards do.`),
		newSKUAuditCommand(),
	)
	for _, cmd := range group.Commands() {
		cmd.RunE = withDocuments(cmd.RunE)
	}
	return group
}

// skuCommand is what the commands below share: they send one request and print
// the answer.
type skuCommand struct {
	json bool
}

// attach gives a command the flags that all of them have. Its first argument, if
// it takes any, is a SKU.
func (s *skuCommand) attach(cmd *cobra.Command) *cobra.Command {
	addSettingFlags(cmd.Flags(), forSKU)
	completeSettings(cmd, forSKU)
	cmd.Flags().BoolVar(&s.json, "json", false, "print the answer as JSON")
	if cmd.Args != nil {
		cmd.ValidArgsFunction = completeSKU
	}
	return cmd
}

// send does a request and prints its answer: as it is, or by show.
func (s *skuCommand) send(cmd *cobra.Command, r opsRequest, show func(io.Writer, []byte) error) error {
	body, err := fetch(cmd, r)
	if err != nil {
		return err
	}
	return s.print(cmd, body, show)
}

func (s *skuCommand) print(cmd *cobra.Command, body []byte, show func(io.Writer, []byte) error) error {
	if s.json {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", bytes.TrimSpace(body))
		return err
	}
	return show(cmd.OutOrStdout(), body)
}

// fetch does a request and gives the answer's body.
func fetch(cmd *cobra.Command, r opsRequest) ([]byte, error) {
	client, err := clientFor(cmd)
	if err != nil {
		return nil, err
	}
	body, err := client.do(cmd.Context(), r)
	key := ""
	if flag := cmd.Flags().Lookup("idempotency-key"); err != nil && flag != nil && !flag.Changed && openOutcome(err) {
		key = r.header["Idempotency-Key"]
		err = &keyed{err, key}
	}
	return body, inItsWords(cmd, key, err)
}

// openOutcome tells whether an error leaves open if the command was done.
func openOutcome(err error) bool {
	var p *problem
	return !errors.As(err, &p) || p.Status == http.StatusGatewayTimeout || p.Status == http.StatusInternalServerError
}

// keyed is an error that leaves open whether the command was done, with the key to
// repeat it by, which the command made.
type keyed struct {
	err error
	key string
}

// Error implements error.
func (k *keyed) Error() string {
	return k.err.Error() + "; run it again with --idempotency-key " + k.key + " (without, it may count twice)"
}

// Unwrap gives the error itself.
func (k *keyed) Unwrap() error { return k.err }

func clientFor(cmd *cobra.Command) (*opsClient, error) {
	loaded, err := loadSettings(cmd.Flags(), forSKU)
	if err != nil {
		return nil, err
	}
	return newOpsClient(loaded.text("ops-url")), nil
}

func skuPath(sku string, more string) string { return "/v1/skus/" + url.PathEscape(sku) + more }

func newSKUPutCommand() *cobra.Command {
	var s skuCommand
	var put skuPutFlags
	cmd := s.attach(&cobra.Command{
		Use:   "put SKU",
		Short: "Create a SKU, or replace its policy",
		Long: `Create a SKU with --on-hand units, or, without --on-hand, replace the policy of one
that exists. What is not given takes its default, not its earlier value.`,
		Args: cobra.ExactArgs(1),
	})
	put.attach(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body, err := put.request(cmd)
		if err != nil {
			return err
		}
		header := map[string]string{"Idempotency-Key": newKey()}
		if cmd.Flags().Changed("if-match") {
			header["If-Match"] = fmt.Sprintf("%q", strconv.FormatUint(put.ifMatch, 10))
		}
		if put.createOnly {
			header["If-None-Match"] = "*"
		}
		return s.send(cmd, opsRequest{method: http.MethodPut, path: skuPath(args[0], ""), header: header, body: body}, showSKU)
	}
	return cmd
}

// skuPutFlags are the fields of a PutSKURequest as flags.
type skuPutFlags struct {
	api.PutSKURequest
	onHand      int64
	lateConfirm string
	starts      string
	ends        string
	metadata    string
	ifMatch     uint64
	createOnly  bool
}

func (p *skuPutFlags) attach(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int64Var(&p.onHand, "on-hand", 0, "units to create the SKU with")
	f.Int64Var(&p.SafetyStock, "safety-stock", 0, "units withheld from sale")
	f.Int64Var(&p.MaxPerReservation, "max-per-reservation", 0, "most units in one reservation (0: no limit)")
	f.Int64Var(&p.MaxPerBuyer, "max-per-buyer", 0, "most units one buyer may hold and have bought (0: no limit)")
	f.Int64Var(&p.DefaultTTLSeconds, "default-ttl-seconds", 0, "how long a reservation holds that names no time (0: 600)")
	f.Int64Var(&p.MaxTTLSeconds, "max-ttl-seconds", 0, "longest hold (0: 30 days)")
	f.StringVar(&p.lateConfirm, "late-confirm", "", "what confirming an expired reservation does: `retake|reject`")
	_ = cmd.RegisterFlagCompletionFunc("late-confirm", cobra.FixedCompletions( // the flag exists: see the line before
		[]cobra.Completion{string(api.LateConfirmRetake), string(api.LateConfirmReject)}, cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&p.starts, "sale-starts-at", "", "`TIME` the sale opens, as 2026-11-27T09:00:00Z")
	f.StringVar(&p.ends, "sale-ends-at", "", "`TIME` the sale closes")
	f.BoolVar(&p.Watch, "watch", false, "mark the SKU for metrics of its own (kept, not used yet)")
	f.StringVar(&p.metadata, "metadata", "", "a `JSON` object to keep with the SKU")
	f.Uint64Var(&p.ifMatch, "if-match", 0, "replace this `VERSION` only")
	f.BoolVar(&p.createOnly, "create-only", false, "fail when the SKU exists")
}

// request puts the flags into the body.
func (p *skuPutFlags) request(cmd *cobra.Command) (*api.PutSKURequest, error) {
	body := p.PutSKURequest
	body.LateConfirm = api.LateConfirm(p.lateConfirm)
	if cmd.Flags().Changed("on-hand") {
		body.OnHand = &p.onHand
	}
	for _, at := range []struct {
		flag, text string
		field      *api.Time
	}{{"sale-starts-at", p.starts, &body.SaleStartsAt}, {"sale-ends-at", p.ends, &body.SaleEndsAt}} {
		if at.text != "" && at.field.UnmarshalText([]byte(at.text)) != nil {
			return nil, usagef(cmd, "--%s %q is not a time such as %s", at.flag, at.text, time.DateOnly+"T09:00:00Z")
		}
	}
	if p.metadata != "" {
		if !json.Valid([]byte(p.metadata)) {
			return nil, usagef(cmd, "--metadata is not JSON")
		}
		body.Metadata = json.RawMessage(p.metadata)
	}
	if p.ifMatch == 0 && cmd.Flags().Changed("if-match") {
		return nil, usagef(cmd, "--if-match is 0: versions begin with 1")
	}
	return &body, nil
}

func newSKUGetCommand() *cobra.Command {
	var s skuCommand
	var strong bool
	cmd := s.attach(&cobra.Command{
		Use:   "get SKU",
		Short: "Show a SKU's policy and where its units are",
		Args:  cobra.ExactArgs(1),
	})
	addStrongFlag(cmd, &strong)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.send(cmd, opsRequest{method: http.MethodGet, path: skuPath(args[0], ""), query: consistency(strong)}, showSKU)
	}
	return cmd
}

func newSKUAvailabilityCommand() *cobra.Command {
	var s skuCommand
	var strong bool
	cmd := s.attach(&cobra.Command{
		Use:   "availability SKU",
		Short: "Show how many units of a SKU are for sale",
		Long: `Show how many units of a SKU are for sale. With --strong every shard is asked, and
the answer shows what it stands on: "sold out" then means that every bucket, every
message between shards and every line is empty, after so many commands as APPLIED
says.`,
		Args: cobra.ExactArgs(1),
	})
	addStrongFlag(cmd, &strong)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.send(cmd, opsRequest{method: http.MethodGet, path: skuPath(args[0], "/availability"), query: consistency(strong)}, showAvailability)
	}
	return cmd
}

func addStrongFlag(cmd *cobra.Command, strong *bool) {
	cmd.Flags().BoolVar(strong, "strong", false, "ask the shards' leaders, to see everything answered so far")
}

// consistency is the query of a reading.
func consistency(strong bool) url.Values {
	query := url.Values{}
	if strong {
		query.Set("consistency", "strong")
	}
	return query
}

func newSKURestockCommand() *cobra.Command {
	var s skuCommand
	var reference, key string
	cmd := s.attach(&cobra.Command{
		Use:   "restock SKU UNITS",
		Short: "Add units to a SKU",
		Args:  cobra.ExactArgs(2),
	})
	cmd.Flags().StringVar(&reference, "reference", "", "`TEXT` kept with the deposit")
	addKeyFlag(cmd, &key)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		units, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return usagef(cmd, "UNITS is %q: it must be a whole number", args[1])
		}
		return s.send(cmd, opsRequest{
			method: http.MethodPost, path: skuPath(args[0], "/restock"),
			header: map[string]string{"Idempotency-Key": orNewKey(key)},
			body:   api.RestockRequest{Quantity: units, Reference: reference},
		}, showSKU)
	}
	return cmd
}

func newSKUAdjustCommand() *cobra.Command {
	var s skuCommand
	var body api.AdjustRequest
	var key string
	cmd := s.attach(&cobra.Command{
		Use:     "adjust SKU --delta UNITS --reason TEXT",
		Short:   "Correct a SKU's count, up or down",
		Example: "  stockade sku adjust demo --delta -3 --reason \"broken in transport\"",
		Args:    cobra.ExactArgs(1),
	})
	cmd.Flags().Int64Var(&body.Delta, "delta", 0, "`UNITS` to add, or with a minus to take away")
	cmd.Flags().StringVar(&body.Reason, "reason", "", "`TEXT` that says why")
	addKeyFlag(cmd, &key)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if body.Delta == 0 || body.Reason == "" {
			return usagef(cmd, "--delta and --reason are needed")
		}
		return s.send(cmd, opsRequest{
			method: http.MethodPost, path: skuPath(args[0], "/adjust"),
			header: map[string]string{"Idempotency-Key": orNewKey(key)}, body: body,
		}, showSKU)
	}
	return cmd
}

func addKeyFlag(cmd *cobra.Command, key *string) {
	cmd.Flags().StringVar(key, "idempotency-key", "", "`KEY` that makes the command repeatable (default: a new one)")
}

func orNewKey(key string) string {
	if key == "" {
		return newKey()
	}
	return key
}

func newSKUPauseCommand(verb, short, long string) *cobra.Command {
	var s skuCommand
	cmd := s.attach(&cobra.Command{
		Use: verb + " SKU", Short: short, Args: cobra.ExactArgs(1),
		Long: long + `
A shard that can't be asked in time is named: the change is made all the same, and
reaches the shard when it can be reached. Repeat the command to see.`,
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.send(cmd, opsRequest{method: http.MethodPost, path: skuPath(args[0], "/"+verb)}, showSKU)
	}
	return cmd
}

func newSKUAuditCommand() *cobra.Command {
	var s skuCommand
	cmd := s.attach(&cobra.Command{
		Use:   "audit SKU",
		Short: "Prove that every unit of a SKU is accounted for",
		Long: `Ask every shard for what it holds, sold and exchanged, and check that the units add
up. Exit code 1 when they do not.`,
		Args: cobra.ExactArgs(1),
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		body, err := fetch(cmd, opsRequest{method: http.MethodGet, path: skuPath(args[0], "/audit")})
		if err != nil {
			return err
		}
		if err := s.print(cmd, body, showAudit); err != nil {
			return err
		}
		return checkBalanced(body)
	}
	return cmd
}
