package router

import (
	"strings"
	"time"

	"stockade/allocator"
)

// Keys that carry their time are believed when it lies between these years.
// Outside of them the text only looks like a UUIDv7 or ULID: no request of a
// running system has a key from before Stockade was there.
var (
	firstKeyTime = allocator.Millis(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	lastKeyTime  = allocator.Millis(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
)

const (
	uuidLen     = 36
	ulidLen     = 26
	ulidTimeLen = 10 // characters of an ULID that hold its time
)

// keyTime tells when an idempotency key was made, if it is a UUIDv7 or a ULID;
// else 0.
func keyTime(key string) allocator.Millis {
	var t allocator.Millis
	switch len(key) {
	case uuidLen:
		t = uuidTime(key)
	case ulidLen:
		t = ulidTime(key)
	}
	if t < firstKeyTime || t >= lastKeyTime {
		return 0
	}
	return t
}

// uuidTime reads xxxxxxxx-xxxx-7xxx-[89ab]xxx-xxxxxxxxxxxx, whose first 48 bits
// are milliseconds; 0 for anything else.
func uuidTime(key string) allocator.Millis {
	if key[14] != '7' || !strings.ContainsRune("89abAB", rune(key[19])) {
		return 0
	}
	var t allocator.Millis
	for i := range len(key) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if key[i] != '-' {
				return 0
			}
			continue
		}
		v := hexValue(key[i])
		if v < 0 {
			return 0
		}
		if i < 13 {
			t = t<<4 | allocator.Millis(v)
		}
	}
	return t
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// ulidAlphabet is Crockford's base 32.
const ulidAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ulidTime reads 26 characters of base 32, of which ten are milliseconds; 0 for
// anything else. 26 digits are an order number: a ULID without any letter is a
// chance of one in ten million.
func ulidTime(key string) allocator.Millis {
	upper := strings.ToUpper(key)
	letters := false
	var t allocator.Millis
	for i := range len(upper) {
		v := strings.IndexByte(ulidAlphabet, upper[i])
		if v < 0 || (i == 0 && v > 7) {
			return 0
		}
		letters = letters || v > 9
		if i < ulidTimeLen {
			t = t<<5 | allocator.Millis(v)
		}
	}
	if !letters {
		return 0
	}
	return t
}
