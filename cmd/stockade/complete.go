package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"stockade/router/api"
)

// What the shell completes. Nothing here takes files unless it says so: the root
// command's default is to offer none.

const (
	// completeTimeout is as long as somebody who pressed a key waits for nothing.
	completeTimeout = 500 * time.Millisecond
	// completeMost is how many SKUs are offered: more can't be read at a glance,
	// and the next letter narrows them down.
	completeMost = 50
)

// completeSettings lets the shell complete the values of settings that have few,
// and the files and directories of those that name one.
func completeSettings(cmd *cobra.Command, s scope) {
	// The flags exist: they were added from the same list.
	for _, known := range inScope(s) {
		switch {
		case len(known.kind.values) > 0:
			_ = cmd.RegisterFlagCompletionFunc(known.name, cobra.FixedCompletions(known.kind.values, cobra.ShellCompDirectiveNoFileComp))
		case known.kind.arg == "DIR":
			_ = cmd.MarkFlagDirname(known.name)
		case known.kind.arg == "FILE":
			_ = cmd.RegisterFlagCompletionFunc(known.name, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
		}
	}
	_ = cmd.MarkFlagFilename(configKey, "yaml", "yml")
}

// completeSKU offers the SKUs that begin with what was typed, for the first
// argument. It asks the node that the command would talk to; without an answer
// there is nothing to offer.
func completeSKU(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	client, err := clientFor(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	query := url.Values{"limit": {strconv.Itoa(completeMost)}}
	if typed != "" {
		query.Set("prefix", typed)
	}
	body, err := client.do(ctx, opsRequest{method: http.MethodGet, path: "/v1/skus", query: query})
	var page api.SKUPage
	if err != nil || json.Unmarshal(body, &page) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]cobra.Completion, len(page.Data))
	for i := range page.Data {
		names[i] = page.Data[i].SKU
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
