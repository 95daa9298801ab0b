package httpapi

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"stockade/allocator"
	"stockade/router/api"
)

// maxFieldErrors is how many faults are listed for one request or one item of a
// batch: enough to mend a body in one go, few enough to keep the answer small.
const maxFieldErrors = 16

// document reads one JSON body token by token. It is strict: a field that is
// not known, given twice or of the wrong type is a fault. Faults are collected,
// so that one answer names several; only broken JSON ends the reading.
//
// The methods that read a value leave the reader behind it whatever they find.
// A document is used by one goroutine and may be used again after open.
type document struct {
	src    bytes.Buffer
	size   int // of the body
	dec    jsontext.Decoder
	text   []byte // scratch for names and strings with escapes
	errs   []api.FieldError
	broken bool // the JSON itself is broken: nothing more can be read
	ids    allocator.IDMark
}

// open starts reading body, which must not change until the document is done.
func (d *document) open(body []byte) {
	d.src, d.size = *bytes.NewBuffer(body), len(body)
	d.dec.Reset(&d.src)
	d.errs, d.broken = nil, false
	if len(body) == 0 {
		d.broken = true
		d.fault("", "the body is empty; a JSON object is needed")
	}
}

// rest is how many bytes of the body have not been read.
func (d *document) rest() int { return d.size - int(d.dec.InputOffset()) }

// end checks that nothing follows the document.
func (d *document) end() {
	if d.broken {
		return
	}
	switch _, err := d.dec.ReadToken(); {
	case errors.Is(err, io.EOF):
	default:
		d.broken = true
		d.fault("", "there is more data after the JSON object")
	}
}

// fault notes what is wrong at a pointer.
func (d *document) fault(pointer, detail string) {
	if len(d.errs) < maxFieldErrors {
		d.errs = append(d.errs, api.FieldError{Pointer: &pointer, Detail: detail})
	}
}

// here notes what is wrong with the value just read.
func (d *document) here(detail string) { d.inside("", detail) }

// inside notes what is wrong with a part of the value just read; path starts
// with a slash.
func (d *document) inside(path, detail string) {
	if !d.broken {
		d.fault(string(d.dec.StackPointer())+path, detail)
	}
}

// fail notes an error of the JSON itself and ends the reading.
func (d *document) fail(err error) {
	d.broken = true
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		d.fault("", "the JSON ends too early")
		return
	}
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		d.fault(string(syntax.JSONPointer), "the field is given twice")
	case errors.Is(err, io.ErrUnexpectedEOF):
		d.fault(string(syntax.JSONPointer), "the JSON ends too early")
	default:
		d.fault(string(syntax.JSONPointer),
			"not valid JSON at byte "+strconv.FormatInt(syntax.ByteOffset, 10)+": "+syntax.Err.Error())
	}
}

// value reads a value of the wanted kind. Of another kind it says what was
// wanted, skips it and returns nil. What it returns is valid until the next read.
func (d *document) value(kind jsontext.Kind, wanted string) []byte {
	if d.broken {
		return nil
	}
	if got := d.dec.PeekKind(); got != kind && got != jsontext.KindInvalid {
		d.skip()
		if got == jsontext.KindNull {
			wanted += ", not null: leave the field out instead"
		}
		d.here("must be " + wanted)
		return nil
	}
	raw, err := d.dec.ReadValue()
	if err != nil {
		d.fail(err)
		return nil
	}
	return raw
}

// skip passes over the next value.
func (d *document) skip() {
	if err := d.dec.SkipValue(); err != nil {
		d.fail(err)
	}
}

// enter reads the opening delimiter of an object or array.
func (d *document) enter(kind jsontext.Kind, wanted string) bool {
	if d.broken {
		return false
	}
	switch got := d.dec.PeekKind(); got {
	case kind, jsontext.KindInvalid:
	default:
		d.skip()
		d.here("must be " + wanted)
		return false
	}
	if _, err := d.dec.ReadToken(); err != nil {
		d.fail(err)
		return false
	}
	return true
}

// object enters an object; member then gives its fields.
func (d *document) object() bool { return d.enter(jsontext.KindBeginObject, "an object") }

// array enters an array; element then says whether there is another value.
func (d *document) array() bool { return d.enter(jsontext.KindBeginArray, "an array") }

// member reads the name of the object's next field, or its end. The name is
// valid until the next read.
func (d *document) member() (name []byte, ok bool) {
	if d.leave(jsontext.KindEndObject) {
		return nil, false
	}
	raw, err := d.dec.ReadValue()
	if err != nil {
		d.fail(err)
		return nil, false
	}
	return d.unquote(raw), true
}

// element tells whether the array has another value, and reads its end if not.
func (d *document) element() bool { return !d.leave(jsontext.KindEndArray) }

// leave reads the closing delimiter if it is next; broken JSON ends everything.
func (d *document) leave(end jsontext.Kind) bool {
	if d.broken {
		return true
	}
	switch d.dec.PeekKind() {
	case end:
		_, err := d.dec.ReadToken()
		if err != nil {
			d.fail(err)
		}
		return true
	case jsontext.KindInvalid:
		_, err := d.dec.ReadToken()
		d.fail(err)
		return true
	default:
		return false
	}
}

// unknown notes a field that is not known and skips its value.
func (d *document) unknown(known string) {
	d.here("unknown field; the fields here are " + known)
	d.skip()
}

// unquote gives the text of a JSON string without allocating. The text is valid
// until the next read.
func (d *document) unquote(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	// The decoder has checked the string, so this can't fail.
	d.text, _ = jsontext.AppendUnquote(d.text[:0], raw)
	return d.text
}

// str reads a string of minLen to maxLen bytes.
func (d *document) str(minLen, maxLen int) string {
	raw := d.value(jsontext.KindString, "a string")
	if raw == nil {
		return ""
	}
	text := d.unquote(raw)
	if len(text) < minLen {
		d.here("must not be empty")
		return ""
	}
	if len(text) > maxLen {
		d.here("must be at most " + strconv.Itoa(maxLen) + " bytes long; it has " + strconv.Itoa(len(text)))
		return ""
	}
	return string(text)
}

// integer reads a whole number from lowest to highest. It returns lowest when
// there is a fault, so that later checks don't complain once more.
func (d *document) integer(lowest, highest int64) int64 {
	raw := d.value(jsontext.KindNumber, "a whole number")
	if raw == nil {
		return lowest
	}
	if bytes.ContainsAny(raw, ".eE") {
		d.here("must be a whole number, without fraction or exponent")
		return lowest
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < lowest || n > highest {
		d.here("must be from " + strconv.FormatInt(lowest, 10) + " to " + strconv.FormatInt(highest, 10))
		return lowest
	}
	return n
}

// boolean reads true or false.
func (d *document) boolean() bool {
	if d.broken {
		return false
	}
	kind := d.dec.PeekKind()
	if kind != jsontext.KindTrue && kind != jsontext.KindFalse {
		d.value(jsontext.KindTrue, "true or false")
		return false
	}
	d.skip()
	return kind == jsontext.KindTrue
}
