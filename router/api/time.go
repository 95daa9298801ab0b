package api

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// TimeLayout is how times are written: RFC 3339, UTC, milliseconds.
const TimeLayout = "2006-01-02T15:04:05.000Z"

// Time is a moment in milliseconds since the Unix epoch. In JSON it is a string
// in TimeLayout. Zero means "none" and is left out of documents.
type Time int64

// TimeOf converts t, cutting what is finer than a millisecond. The zero
// time.Time gives the zero Time.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixMilli())
}

// Time gives the moment in UTC; the zero Time gives the zero time.Time.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(t)).UTC()
}

// String writes t as JSON does, without the quotes.
func (t Time) String() string {
	b, _ := t.AppendText(nil)
	return string(b)
}

// AppendText appends t in TimeLayout. It never fails.
func (t Time) AppendText(b []byte) ([]byte, error) {
	at := time.UnixMilli(int64(t)).UTC()
	year, month, day := at.Date()
	if year < 0 || year > 9999 {
		return at.AppendFormat(b, TimeLayout), nil
	}
	// Each answer has two of them, and by a layout they take four times as long.
	hour, minute, second := at.Clock()
	b = append(appendDigits(b, year, 1000), '-')
	b = append(appendDigits(b, int(month), 10), '-')
	b = append(appendDigits(b, day, 10), 'T')
	b = append(appendDigits(b, hour, 10), ':')
	b = append(appendDigits(b, minute, 10), ':')
	b = append(appendDigits(b, second, 10), '.')
	b = appendDigits(b, at.Nanosecond()/int(time.Millisecond), 100)
	return append(b, 'Z'), nil
}

// appendDigits appends a number that has no more digits than highest, which is a power
// of ten, and leading zeros.
func appendDigits(b []byte, n, highest int) []byte {
	for ; highest > 0; highest /= 10 {
		b = append(b, byte('0'+n/highest%10))
	}
	return b
}

// MarshalText writes t in TimeLayout. It never fails.
func (t Time) MarshalText() ([]byte, error) {
	return t.AppendText(make([]byte, 0, len(TimeLayout)))
}

// errTime is what is wrong with a text that is not a time.
var errTime = errors.New("not a time as in RFC 3339")

// UnmarshalText reads any RFC 3339 time, cutting what is finer than a
// millisecond. It fails with an error that says so for anything else.
func (t *Time) UnmarshalText(text []byte) error {
	var parsed time.Time
	if err := parsed.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w: %w", errTime, err)
	}
	if !strictTime(string(text)) {
		return errTime
	}
	*t = TimeOf(parsed)
	return nil
}

// strictTime refuses what package time takes and RFC 3339 does not: an hour of
// one digit, a comma before the fraction, an offset beyond a day.
func strictTime(parsed string) bool {
	offset := parsed[len(parsed)-5:]
	return parsed[13] == ':' && !strings.Contains(parsed, ",") &&
		(strings.HasSuffix(offset, "Z") || offset[:2] < "24" && offset[3:] < "60")
}
