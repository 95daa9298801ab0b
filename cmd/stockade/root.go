package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootLong = `Stockade holds stock counts in memory, replicates them with Raft, and hands out
reservations at flash-sale rates without ever overselling.

To try it, run "stockade dev": three nodes in one process, with stock to sell,
and curl commands to paste. To run a real cluster, start "stockade node" on each
machine. To manage stock from the command line, use "stockade sku"; to see what a
cluster can do, "stockade bench".`

const settingsHelp = `
Settings come from flags, from the environment (STOCKADE_DATA_DIR for --data-dir),
from a YAML file (--config, by the names of the flags) and from defaults, the
first one found wins. "stockade config print --origins" shows which.`

// newRootCommand builds the whole command line.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "stockade",
		Short: "Reservations of stock that never oversell",
		Long:  rootLong,
		// run prints errors itself, in one line and without the whole help.
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       buildVersion(),
	}
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetVersionTemplate("stockade {{.Version}}\n")
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "use", Title: "Use:"},
		&cobra.Group{ID: "help", Title: "Look up:"},
	)
	root.AddCommand(
		newDevCommand(), newNodeCommand(), newRouterCommand(),
		newSKUCommand(), newHealthCommand(), newClusterCommand(), newBenchCommand(),
		newConfigCommand(), newExplainCommand(), newVersionCommand(),
	)
	root.SetHelpCommandGroupID("help")
	root.SetCompletionCommandGroupID("help")
	root.InitDefaultCompletionCmd()
	strictUsage(root)
	return root
}

// strictUsage makes every mistake on the command line a usageError, in a command
// and all below it: cobra by itself gives plain errors, and takes an unknown
// sub-command of a group as an argument.
func strictUsage(cmd *cobra.Command) {
	fail := func(c *cobra.Command, reason string) error {
		return &usageError{command: c.CommandPath(), reason: reason}
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fail(c, flagReason(c, err))
	})
	takes := cmd.Args
	group := !cmd.Runnable()
	if group {
		cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if group && len(args) > 0 {
			return fail(c, unknownCommand(c, args[0]))
		}
		if takes == nil {
			takes = cobra.NoArgs
		}
		if err := takes(c, args); err != nil {
			return fail(c, err.Error())
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		strictUsage(sub)
	}
}

func unknownCommand(c *cobra.Command, name string) string {
	reason := fmt.Sprintf("unknown command %q of %s", name, c.CommandPath())
	if near := c.SuggestionsFor(name); len(near) > 0 {
		reason += fmt.Sprintf(": did you mean %q?", near[0])
	}
	return reason
}

// flagReason says what is wrong with a flag, and for an unknown one which known
// one is nearest.
func flagReason(c *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return err.Error()
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return fmt.Sprintf("unknown flag --%s: did you mean --%s?", unknown.GetSpecifiedName(), nearest(unknown.GetSpecifiedName(), names))
}

// usagef reports a command line that parses and makes no sense.
func usagef(c *cobra.Command, format string, args ...any) error {
	return &usageError{command: c.CommandPath(), reason: strings.TrimSpace(fmt.Sprintf(format, args...))}
}
