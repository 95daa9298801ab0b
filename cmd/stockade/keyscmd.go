package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"stockade/shard/membership"
)

func newClusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cluster",
		Short:   "Change what a running cluster's members share",
		GroupID: "use",
	}
	cmd.AddCommand(newKeysCommand())
	return cmd
}

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Change the keys that encrypt the gossip",
		Long: `Change the keys that encrypt the gossip, in the file that --gossip-key-file names.
Members that run look at their file every two seconds and take over what has
changed; nobody is restarted. Keys never go over the network: change the file on
each machine, or on one and copy it.

To change to a new key, do each step on all members before the next one:
  1. add the new key: everybody accepts both
  2. use it: everybody sends with it
  3. remove the old one

Keys are shown by a name that does not tell them.`,
		Example: `  stockade cluster keys add --gossip-key-file keys
  stockade cluster keys use 1a2b3c4d --gossip-key-file keys
  stockade cluster keys remove 5e6f7a8b --gossip-key-file keys
  stockade cluster keys list --gossip-key-file keys --json`,
	}
	k := new(keyEditor)
	cmd.PersistentFlags().StringVar(&k.path, "gossip-key-file", "", "the file with the keys")
	cmd.PersistentFlags().BoolVar(&k.asJSON, "json", false, "print the keys' names as JSON")
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "Show the keys' names, the one that is sent with first", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return k.edit(cmd, func(*membership.Keys) error { return nil })
			},
		},
		&cobra.Command{
			Use: "add [KEY]", Short: "Accept one more key: KEY in base64, or a new one", Args: cobra.MaximumNArgs(1),
			RunE: k.add,
		},
		&cobra.Command{
			Use: "use NAME", Short: "Send with a key that is accepted already", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return k.edit(cmd, func(keys *membership.Keys) error { return k.with(keys, args[0], keys.Use) })
			},
		},
		&cobra.Command{
			Use: "remove NAME", Short: "Accept a key no more", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return k.edit(cmd, func(keys *membership.Keys) error { return k.with(keys, args[0], keys.Remove) })
			},
		},
	)
	return cmd
}

// keyEditor changes a file of keys.
type keyEditor struct {
	path   string
	asJSON bool
}

var errNoKeyFile = errors.New("give the file with the keys: --gossip-key-file FILE")

// edit changes the keys of the file and prints their names.
func (k *keyEditor) edit(cmd *cobra.Command, change func(*membership.Keys) error) error {
	if k.path == "" {
		return errNoKeyFile
	}
	keys, err := membership.ReadKeys(k.path)
	if err != nil {
		return err
	}
	if err := change(keys); err != nil {
		return err
	}
	if cmd.Name() != "list" {
		if err := keys.Write(k.path); err != nil {
			return err
		}
	}
	return k.show(cmd, keys)
}

// add adds a key to the file, which it makes if it is not there.
func (k *keyEditor) add(cmd *cobra.Command, args []string) error {
	key := membership.NewKey()
	if len(args) > 0 {
		given, err := membership.ParseKey(args[0])
		if err != nil {
			return err
		}
		key = given
	}
	err := k.edit(cmd, func(keys *membership.Keys) error { return keys.Add(key) })
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	keys, err := membership.NewKeys(key)
	if err != nil {
		return err
	}
	if err := keys.Write(k.path); err != nil {
		return err
	}
	return k.show(cmd, keys)
}

// with finds a key by its name, or itself.
func (k *keyEditor) with(keys *membership.Keys, name string, do func([]byte) error) error {
	for _, key := range keys.All() {
		if name == membership.KeyName(key) || name == base64.StdEncoding.EncodeToString(key) {
			return do(key)
		}
	}
	return fmt.Errorf("%s has no key %q: stockade cluster keys list shows their names", k.path, name)
}

// show prints the keys' names.
func (k *keyEditor) show(cmd *cobra.Command, keys *membership.Keys) error {
	var names []string
	for _, key := range keys.All() {
		names = append(names, membership.KeyName(key))
	}
	out := cmd.OutOrStdout()
	if k.asJSON {
		return json.NewEncoder(out).Encode(map[string]any{"sends_with": names[0], "accepts": names})
	}
	for i, name := range names {
		if i == 0 {
			name += " (sends)"
		}
		if _, err := fmt.Fprintln(out, name); err != nil {
			return err
		}
	}
	return nil
}
