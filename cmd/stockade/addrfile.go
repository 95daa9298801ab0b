package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// addresses are the ones a process listens on, as --addr-file tells them to
// whoever started it with free ports.
type addresses struct {
	HTTP   string `json:"http"`
	Ops    string `json:"ops"`
	Peer   string `json:"peer,omitempty"`   // a router has none
	Gossip string `json:"gossip,omitempty"` // empty: it does not take part
}

// write puts the addresses into a file in one step: whoever waits for the file
// never reads half of it.
func (a addresses) write(path string) error {
	encoded, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode the addresses: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write the address file (--addr-file): %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err = f.Write(append(encoded, '\n'))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the address file (--addr-file): %w", err)
	}
	return nil
}
