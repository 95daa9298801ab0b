package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
)

func newConfigCommand() *cobra.Command {
	group := &cobra.Command{
		Use:     "config",
		Short:   "Look at settings",
		GroupID: "help",
	}
	group.AddCommand(newConfigPrintCommand())
	return group
}

func newConfigPrintCommand() *cobra.Command {
	var origins bool
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print every setting, and where it comes from",
		Long: `Print every setting as a YAML file that --config would take. With --origins each
line says where its value comes from: a flag, the environment, the file or the
default. Takes the flags of all commands, to see what they would do.
` + settingsHelp,
		Example: "  STOCKADE_SHARDS=8 stockade config print --origins --log-level debug",
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := loadSettings(cmd.Flags(), forAll)
			if err != nil {
				return err
			}
			return printSettings(cmd, loaded, origins)
		},
	}
	cmd.Flags().BoolVar(&origins, "origins", false, "say where each value comes from")
	addSettingFlags(cmd.Flags(), forAll)
	completeSettings(cmd, forAll)
	return cmd
}

func printSettings(cmd *cobra.Command, loaded settings, origins bool) error {
	for _, known := range inScope(forAll) {
		v := loaded[known.name]
		line := known.name + ": " + yamlScalar(v.text)
		if origins {
			line = fmt.Sprintf("%-44s # %s", line, v.origin)
		}
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
			return err
		}
	}
	return nil
}

// yamlScalar writes a value so that YAML reads the same text: numbers and truth
// values bare, as anyone would write them, the rest in quotes.
func yamlScalar(text string) string {
	if _, err := strconv.Atoi(text); err == nil || text == "true" || text == "false" {
		return text
	}
	return strconv.Quote(text)
}
