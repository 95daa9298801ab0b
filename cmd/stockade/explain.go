package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"stockade/router/httpapi"
)

func newExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "explain CODE",
		Short:   "Explain an error code, and what to do about it",
		GroupID: "help",
		Long: `Explain the code of an error answer: what happened, whether anything was done,
whether to retry, and what to do. The same text is at /problems/CODE of a running
node.`,
		Example:   "  stockade explain insufficient-stock",
		ValidArgs: problemCodes(),
		Args:      cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			explanation, ok := httpapi.Explain(args[0])
			if !ok {
				return fmt.Errorf("there is no code %q: did you mean %q?", args[0], nearest(args[0], problemCodes()))
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), httpapi.ExplainText(explanation))
			return err
		},
	}
}

// problemCodes lists the codes that can be explained.
func problemCodes() []string {
	var codes []string
	for _, e := range httpapi.Explanations() {
		codes = append(codes, e.Code)
	}
	return codes
}
