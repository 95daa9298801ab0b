package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout is less than any health check waits.
const healthTimeout = 2 * time.Second

func newHealthCommand() *cobra.Command {
	var live, asJSON bool
	cmd := &cobra.Command{
		Use:     "health",
		Short:   "Tell whether a node or a router is ready to serve",
		GroupID: "use",
		Long: `Tell whether the node or router behind --ops-url is ready to serve, by its exit
code: 0 if it is, 1 if not, or if it does not answer. It is what a container's
health check runs.

A node that is not ready is not ill: it may wait for others, or its shards for a
leader. With --live only a process that does not answer fails.`,
		Example: "  stockade health\n  stockade health --ops-url http://10.0.0.1:8401 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := loadSettings(cmd.Flags(), forSKU)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			path := "/readyz"
			if live {
				path = "/livez"
			}
			body, err := newOpsClient(loaded.text("ops-url")).do(ctx, opsRequest{
				method: http.MethodGet, path: path, query: verbosely(asJSON && !live),
			})
			var p *problem
			if errors.As(err, &p) {
				body = p.document
			}
			if len(body) > 0 && (asJSON || err == nil) {
				if _, printErr := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(body))); printErr != nil {
					return printErr
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "only whether the process answers")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of /readyz as it comes")
	addSettingFlags(cmd.Flags(), forSKU)
	completeSettings(cmd, forSKU)
	return cmd
}

// verbosely asks for the shards too.
func verbosely(yes bool) url.Values {
	if yes {
		return url.Values{"verbose": {"1"}}
	}
	return nil
}
