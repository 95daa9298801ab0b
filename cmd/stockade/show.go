package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stockade/router/api"
)

// listPage is how many SKUs one request of `sku list` asks for: the API's
// largest page, since all pages are wanted.
const listPage = 1000

// listTimeout is for asking all shards for each SKU of a page.
const listTimeout = 10 * time.Second

// table aligns columns that are separated by tabs.
func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// decode reads the document that a node answered with.
func decode(body []byte, document any) error {
	if err := json.Unmarshal(body, document); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// showSKU prints a SKU for people.
func showSKU(w io.Writer, body []byte) error {
	var sku api.SKU
	if err := decode(body, &sku); err != nil {
		return err
	}
	if sku.AsOf == 0 { // the change is done, but reading the SKU back failed
		_, err := fmt.Fprintf(w, "done; %s is at version %d; its counts can't be read just now\n%s", sku.SKU, sku.Version, effect(sku.Effect))
		return err
	}
	t := table(w)
	fmt.Fprintf(t, "sku\t%s\n", sku.SKU)
	fmt.Fprintf(t, "on hand\t%d\n", sku.OnHand)
	fmt.Fprintf(t, "  available\t%d\n", sku.Available)
	fmt.Fprintf(t, "  reserved\t%d\n", sku.Reserved)
	fmt.Fprintf(t, "  committed\t%d\n", sku.Committed)
	fmt.Fprintf(t, "  in transit\t%d\n", sku.InTransit)
	fmt.Fprintf(t, "  safety stock\t%d\n", sku.SafetyStock)
	fmt.Fprintf(t, "max per reservation\t%s\n", limit(sku.MaxPerReservation))
	fmt.Fprintf(t, "max per buyer\t%s\n", limit(sku.MaxPerBuyer))
	fmt.Fprintf(t, "holds\t%d s, at most %d s\n", sku.DefaultTTLSeconds, sku.MaxTTLSeconds)
	fmt.Fprintf(t, "late confirm\t%s\n", sku.LateConfirm)
	fmt.Fprintf(t, "sale\t%s\n", sale(sku))
	fmt.Fprintf(t, "version\t%d\n", sku.Version)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(sku.Buckets) > 0 {
		if err := showBuckets(w, sku.Buckets); err != nil {
			return err
		}
	}
	if words := effect(sku.Effect); words != "" {
		_, err := fmt.Fprintf(w, "\n%s", words)
		return err
	}
	return nil
}

// effect says in a line whether all shards go by a change; "" when there was none.
func effect(e api.Effect) string {
	switch {
	case len(e.PendingShards) > 0:
		return fmt.Sprintf("NOT YET IN EFFECT on shards %s: they were not seen to go by the change in time. It is made, and reaches them when they can be reached; repeat the command to see.\n", numbers(e.PendingShards))
	case e.EffectiveAt != 0:
		return fmt.Sprintf("in effect on all shards since %s\n", e.EffectiveAt)
	}
	return ""
}

// numbers writes numbers with commas between.
func numbers(list []int) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ", ")
}

// showAvailability prints an availability for people.
func showAvailability(w io.Writer, body []byte) error {
	var a api.Availability
	if err := decode(body, &a); err != nil {
		return err
	}
	verdict := fmt.Sprintf("%s: %d for sale", a.SKU, a.Available)
	if a.SoldOut {
		verdict = a.SKU + ": sold out"
	}
	if _, err := fmt.Fprintf(w, "%s, as of %s\n", verdict, a.AsOf); err != nil || len(a.Shards) == 0 {
		return err
	}
	t := table(w)
	fmt.Fprintf(t, "\nSHARD\tAPPLIED\tAVAILABLE\tIN TRANSIT\tWAITING\n")
	for _, s := range a.Shards {
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\n", s.Shard, s.Applied, s.Available, s.InTransit, s.Waiting)
	}
	return t.Flush()
}

func showBuckets(w io.Writer, buckets []api.Bucket) error {
	t := table(w)
	fmt.Fprintf(t, "\nSHARD\tAVAILABLE\tRESERVED\tCOMMITTED\n")
	for _, b := range buckets {
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\n", b.Shard, b.Available, b.Reserved, b.Committed)
	}
	return t.Flush()
}

// limit writes a policy's limit, in which 0 means none.
func limit(n int64) string {
	if n == 0 {
		return "no limit"
	}
	return strconv.FormatInt(n, 10)
}

// sale says when a SKU is sold.
func sale(sku api.SKU) string {
	words := "open"
	if sku.Paused {
		words = "paused"
	}
	if sku.SaleStartsAt != 0 {
		words += ", from " + sku.SaleStartsAt.String()
	}
	if sku.SaleEndsAt != 0 {
		words += ", until " + sku.SaleEndsAt.String()
	}
	return words
}

// showAudit prints the sums of an audit for people.
func showAudit(w io.Writer, body []byte) error {
	var audit api.Audit
	if err := decode(body, &audit); err != nil {
		return err
	}
	t := table(w)
	fmt.Fprintf(t, "SHARD\tIN\tOUT\tHELD\tSOLD\tAVAILABLE\tRESERVED\tSAFETY\tWAITING\n")
	for _, s := range audit.Shards {
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", s.Shard, s.In, s.Out, s.Held, s.Sold, s.Available, s.Reserved, s.SafetyStock, s.Waiting)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "balanced"
	if !audit.Balanced {
		verdict = "NOT BALANCED"
	}
	if audit.SoldOut {
		verdict += ", sold out"
	}
	_, err := fmt.Fprintf(w, "\n%s: %d on hand = %d available + %d reserved + %d committed + %d in transit + %d safety stock\n", verdict,
		audit.OnHand, audit.Available, audit.Reserved, audit.Committed, audit.InTransit, audit.SafetyStock)
	return err
}

// checkBalanced makes an audit that found something an error.
func checkBalanced(body []byte) error {
	var audit api.Audit
	if err := decode(body, &audit); err != nil {
		return err
	}
	if !audit.Balanced {
		return fmt.Errorf("the units of %s do not add up: %s: stop selling it, keep the data directories, and report this", audit.SKU, strings.Join(audit.Problems, "; "))
	}
	return nil
}

func newSKUListCommand() *cobra.Command {
	var s skuCommand
	var prefix string
	cmd := s.attach(&cobra.Command{
		Use:   "list",
		Short: "List the SKUs",
		Long: `List the SKUs in the order of their names, with the units that are for sale, on
all shards together, and all that were ever deposited. With --json every SKU is one
line of JSON, so that a long list can be worked through as it comes.`,
	})
	cmd.Flags().StringVar(&prefix, "prefix", "", "only SKUs that begin with this `TEXT`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		t := table(cmd.OutOrStdout())
		show := func(sku api.SKUSummary) error {
			available := "?" // it was deleted a moment ago
			if sku.Available != nil {
				available = strconv.FormatInt(*sku.Available, 10)
			}
			_, err := fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%t\n", sku.SKU, available, sku.OnHand, sku.Version, sku.Paused)
			return err
		}
		if s.json {
			encoder := json.NewEncoder(cmd.OutOrStdout())
			show = func(sku api.SKUSummary) error { return encoder.Encode(sku) }
		} else {
			fmt.Fprintf(t, "SKU\tAVAILABLE\tON HAND\tVERSION\tPAUSED\n")
		}
		if err := eachSKU(cmd, prefix, show); err != nil {
			return err
		}
		if s.json {
			return nil
		}
		return t.Flush()
	}
	return cmd
}

// eachSKU visits every SKU, page by page.
func eachSKU(cmd *cobra.Command, prefix string, visit func(api.SKUSummary) error) error {
	client, err := clientFor(cmd)
	if err != nil {
		return err
	}
	query := url.Values{"limit": {strconv.Itoa(listPage)}, "with": {"available"}}
	header := map[string]string{"X-Timeout-Ms": strconv.FormatInt(listTimeout.Milliseconds(), 10)}
	if prefix != "" {
		query.Set("prefix", prefix)
	}
	for {
		body, err := client.do(cmd.Context(), opsRequest{method: http.MethodGet, path: "/v1/skus", query: query, header: header})
		if err != nil {
			return inItsWords(cmd, "", err)
		}
		var page api.SKUPage
		if err := decode(body, &page); err != nil {
			return err
		}
		for _, sku := range page.Data {
			if err := visit(sku); err != nil {
				return err
			}
		}
		if page.NextCursor == nil {
			return nil
		}
		if *page.NextCursor == query.Get("cursor") {
			return fmt.Errorf("the server gave the same page of SKUs twice, with the cursor %q: report it", *page.NextCursor)
		}
		query.Set("cursor", *page.NextCursor)
	}
}
