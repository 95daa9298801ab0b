package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// maxLine bounds a line of a file: keys and ids are short.
const maxLine = 64 << 10

// Write writes calls as JSON, one a line.
func Write(w io.Writer, calls []Call) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	for i := range calls {
		if err := e.Encode(&calls[i]); err != nil {
			return fmt.Errorf("write call %d of the history: %w", i+1, err)
		}
	}
	return b.Flush()
}

// Parse reads what Write wrote.
func Parse(r io.Reader) (calls []Call, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var c Call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("line %d is no call of a history: %w", len(calls)+1, err)
		}
		calls = append(calls, c)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d of the history: %w", len(calls)+1, err)
	}
	return calls, nil
}
