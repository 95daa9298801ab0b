package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"stockade/router/httpapi"
)

func newExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "explain [CODE]",
		Short:   "Explain an error code, and what to do about it",
		GroupID: "help",
		Long: `Explain the code of an error answer: what happened, whether anything was done,
whether to retry, and what to do. The same text is at /problems/CODE of a running
node. Without a code it lists them all.`,
		Example:   "  stockade explain insufficient-stock",
		ValidArgs: problemCodes(),
		Args:      cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listCodes(cmd.OutOrStdout())
			}
			code := strings.TrimPrefix(args[0], "/problems/") // as the type of an answer has it
			explanation, ok := httpapi.Explain(code)
			if !ok {
				return fmt.Errorf("there is no code %q: did you mean %q? All are listed by: stockade explain", code, nearest(code, problemCodes()))
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), httpapi.ExplainText(explanation))
			return err
		},
	}
}

// listCodes prints a line for each code.
func listCodes(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range httpapi.Explanations() {
		fmt.Fprintf(t, "%s\t%s\n", e.Code, e.Title)
	}
	return t.Flush()
}

// problemCodes lists the codes that can be explained.
func problemCodes() []string {
	var codes []string
	for _, e := range httpapi.Explanations() {
		codes = append(codes, e.Code)
	}
	return codes
}
