package membership

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/memberlist"
)

// Keys encrypt and authenticate the gossip with AES-GCM: what any of them opens is
// accepted, and what is sent is sealed with the first. It is safe for concurrent use.
type Keys struct {
	ring *memberlist.Keyring
}

// keyForm says what a key looks like.
const keyForm = "a key is 16, 24 or 32 random bytes in base64, such as `head -c 32 /dev/urandom | base64` makes"

// ReadKeys reads a file with one key a line, the one to seal with first. Empty lines and
// those that begin with # are skipped. The file must not be readable for everybody; a group may be (Kubernetes mounts secrets so).
func ReadKeys(path string) (*Keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the gossip keys: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("the gossip keys in %s can be read by everybody (mode %v): chmod 600 %[1]s", path, info.Mode().Perm())
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the gossip keys: %w", err)
	}
	keys, err := parseKeys(content)
	if err != nil {
		return nil, fmt.Errorf("gossip keys in %s: %w", path, err)
	}
	return keys, nil
}

// Reload takes the keys of a file in place of those that were known, one by one, so that
// nothing that comes in meanwhile is refused. If the file can't be used all stays as it
// was. It tells whether anything has changed.
func (k *Keys) Reload(path string) (changed bool, err error) {
	wanted, err := ReadKeys(path)
	if err != nil {
		return false, err
	}
	for _, key := range wanted.All() {
		if !k.has(key) {
			changed = true
			if err := k.Add(key); err != nil {
				return true, err
			}
		}
	}
	if first := wanted.ring.GetPrimaryKey(); !bytes.Equal(first, k.ring.GetPrimaryKey()) {
		changed = true
		if err := k.Use(first); err != nil {
			return true, err
		}
	}
	for _, key := range k.All() {
		if !wanted.has(key) {
			changed = true
			if err := k.Remove(key); err != nil {
				return true, err
			}
		}
	}
	return changed, nil
}

// All are the keys, the one to seal with first.
func (k *Keys) All() [][]byte { return k.ring.GetKeys() }

// Write puts the keys into a file that ReadKeys reads, in one step, for its owner only.
func (k *Keys) Write(path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write the gossip keys: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	for _, key := range k.All() {
		if err == nil {
			_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(key))
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the gossip keys: %w", err)
	}
	return nil
}

// NewKeys makes keys of which the first seals.
func NewKeys(all ...[]byte) (*Keys, error) {
	if len(all) == 0 {
		return nil, errors.New("there is no key")
	}
	ring, err := memberlist.NewKeyring(all, all[0])
	if err != nil {
		return nil, err
	}
	return &Keys{ring}, nil
}

// NewKey draws a key.
func NewKey() []byte {
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // never fails
	return key
}

// keyBytes selects AES-256.
const keyBytes = 32

// KeyName names a key without telling it.
func KeyName(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:nameBytes])
}

// nameBytes are enough to tell a handful of keys apart.
const nameBytes = 4

func parseKeys(content []byte) (*Keys, error) {
	var all [][]byte
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		all = append(all, key)
	}
	if len(all) == 0 {
		return nil, errors.New("there is none; " + keyForm)
	}
	return NewKeys(all...)
}

// ParseKey reads one key.
func ParseKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || memberlist.ValidateKey(key) != nil {
		return nil, errors.New("this is no key: " + keyForm)
	}
	return key, nil
}

// Add accepts one more key.
func (k *Keys) Add(key []byte) error { return k.ring.AddKey(key) }

// Use seals with a key that is accepted already. All members must have it.
func (k *Keys) Use(key []byte) error {
	if !k.has(key) {
		return errors.New("the key is not among those that are accepted: add it on all members first")
	}
	return k.ring.UseKey(key)
}

// Remove accepts a key no more. The one to seal with can't be removed.
func (k *Keys) Remove(key []byte) error {
	if bytes.Equal(key, k.ring.GetPrimaryKey()) {
		return errors.New("the key is the one in use: use another one first")
	}
	return k.ring.RemoveKey(key)
}

func (k *Keys) has(key []byte) bool {
	for _, have := range k.ring.GetKeys() {
		if bytes.Equal(have, key) {
			return true
		}
	}
	return false
}
