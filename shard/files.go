package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Files are readable by the owner only: they hold the secret of the cluster's
// key hash and, in the logs, what customers bought.
const (
	fileMode = 0o600
	dirMode  = 0o700
)

// maxStateFile bounds the small JSON files of a data directory: a thousand
// members at a few hundred bytes each are far below it.
const maxStateFile = 1 << 20

// writeDurably replaces the file at path, so that after a crash or a power loss
// there is either the old content or the new one, never a mixture.
func writeDurably(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := writeSynced(tmp, data); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir creates a directory, with those above it that are missing, and makes its name
// durable. It may exist: then a crash may have come before its name was durable. The path
// must be clean.
func makeDir(path string) error {
	above := filepath.Dir(path)
	if _, err := os.Stat(above); errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(above)
}

// closeRead closes a file that was only read from: there is nothing that its
// closing could lose.
func closeRead(f *os.File) { _ = f.Close() }

// writeJSON writes v, an object with fields, to path durably, with a checksum of its
// text as the first field.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeDurably(path, seal(append(data, '\n')))
}

// A sealed text begins with an object's brace and, on a line of its own, a field with
// the checksum of the text without that line.
const (
	sealBefore = "{\n  \"checksum\": \""
	sealAfter  = "\",\n"
	sealLen    = 8 // hexadecimal digits
)

func seal(text []byte) []byte {
	rest := bytes.TrimPrefix(text, []byte("{\n"))
	return slices.Concat([]byte(sealBefore), fmt.Appendf(nil, "%08x", crc32.Checksum(text, castagnoli)), []byte(sealAfter), rest)
}

var errBrokenSeal = errors.New("its checksum is wrong")

// unseal gives a text as it was sealed. One of before there were checksums has none.
func unseal(text []byte) ([]byte, error) {
	sealed, ok := bytes.CutPrefix(text, []byte(sealBefore))
	if !ok || len(sealed) < sealLen+len(sealAfter) {
		return text, nil
	}
	inner := append([]byte("{\n"), sealed[sealLen+len(sealAfter):]...)
	if !bytes.Equal(seal(inner), text) {
		return nil, errBrokenSeal
	}
	return inner, nil
}

var errTooLong = errors.New("it is longer than such a file can be")

// readSmall reads a file of at most maxStateFile bytes.
func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxStateFile {
		err = errTooLong
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// readJSON reads what writeJSON wrote. found is false when there is no file.
func readJSON(path string, v any) (found bool, err error) {
	data, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if errors.Is(err, errTooLong) {
		return false, fmt.Errorf("%s is damaged (%w): restore it, or start with an empty data directory as a new node", path, err)
	}
	if err != nil {
		return false, err
	}
	inner, err := unseal(data)
	if err == nil {
		// Strictly, so that a checksum or a value whose name was damaged is not passed over.
		d := json.NewDecoder(bytes.NewReader(inner))
		d.DisallowUnknownFields()
		err = d.Decode(v)
	}
	if err != nil {
		return false, fmt.Errorf("%s is damaged, or was changed by hand (%w): restore it, or start with an empty data directory as a new node", path, err)
	}
	return true, nil
}
