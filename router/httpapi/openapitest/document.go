// Package openapitest holds HTTP answers against an OpenAPI document. It is for
// tests: those of the handlers, and those of whoever serves them.
package openapitest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// resource is the name under which the compiler of schemas knows the document.
const resource = "mem:///openapi.json"

// Document is a parsed OpenAPI document with its schemas ready for use. It is not
// safe for concurrent use.
type Document struct {
	Root    map[string]any
	schemas *jsonschema.Compiler
}

// Parse reads a document. Its objects are closed: a field that an answer has and
// the document lacks is a fault here, though clients must bear it.
func Parse(text []byte) (*Document, error) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("parse the OpenAPI document: %w", err)
	}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("the OpenAPI document is not an object")
	}
	closeObjects(root)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(resource, root); err != nil {
		return nil, fmt.Errorf("use the OpenAPI document: %w", err)
	}
	return &Document{Root: root, schemas: c}, nil
}

// closeObjects forbids fields that are not listed.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, listed := v["properties"].(map[string]any)
		if _, said := v["additionalProperties"]; listed && !said && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, child := range v {
			closeObjects(child)
		}
	case []any:
		for _, child := range v {
			closeObjects(child)
		}
	}
}

// At follows a JSON Pointer, and references on its way; it gives the pointer of
// what it found.
func (d *Document) At(pointer string) (any, string) {
	v := any(d.Root)
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		m, ok := v.(map[string]any)
		if !ok {
			return nil, pointer
		}
		v = m[token]
	}
	if m, ok := v.(map[string]any); ok && m["$ref"] != nil {
		return d.At(strings.TrimPrefix(m["$ref"].(string), "#"))
	}
	return v, pointer
}

// Escape writes a name as a token of a JSON Pointer.
func Escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// NotFound is the response to a path that the document does not have: it is
// described once for all.
const NotFound = "/components/responses/NotFound"

// Answer is an HTTP answer to be checked.
type Answer struct {
	Method string // of the request
	Path   string // as the document has it; empty: it has none
	Status int
	Header http.Header
	Body   []byte
}

// Check holds an answer against the document: its status is listed, its headers
// are there, its media type is listed and its body fits the schema.
func (d *Document) Check(a Answer) error {
	if a.Path == "" {
		return d.CheckBody(NotFound, a)
	}
	method := a.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	response, pointer := d.At("/paths/" + Escape(a.Path) + "/" + strings.ToLower(method) + "/responses/" + strconv.Itoa(a.Status))
	if response == nil {
		return fmt.Errorf("%s %s: the document does not list status %d", a.Method, a.Path, a.Status)
	}
	err := d.checkHeaders(response.(map[string]any), a)
	if a.Method != http.MethodHead {
		err = errors.Join(err, d.CheckBody(pointer, a))
	}
	return err
}

// checkHeaders wants the headers that the document requires.
func (d *Document) checkHeaders(response map[string]any, a Answer) error {
	var errs []error
	headers, _ := response["headers"].(map[string]any)
	for name := range headers {
		h, _ := d.At("/components/headers/" + name)
		if required, _ := h.(map[string]any)["required"].(bool); required && a.Header.Get(name) == "" {
			errs = append(errs, fmt.Errorf("%s %s: the header %s is missing", a.Method, a.Path, name))
		}
	}
	return errors.Join(errs...)
}

// CheckBody holds a body against the schema of its media type, in the response at
// a pointer.
func (d *Document) CheckBody(pointer string, a Answer) error {
	media := a.Header.Get("Content-Type")
	listed := d.mediaType(pointer, media)
	if listed == "" {
		return fmt.Errorf("the document does not list %s at %s", media, pointer)
	}
	pointer += "/content/" + Escape(listed) + "/schema"
	if !strings.HasSuffix(media, "json") {
		return nil
	}
	return d.CheckSchema(pointer, a.Body)
}

// mediaType finds the listed media type or range that a media type falls under,
// the most specific first; empty: none.
func (d *Document) mediaType(pointer, media string) string {
	bare, _, _ := strings.Cut(media, ";")
	class, _, _ := strings.Cut(bare, "/")
	for _, listed := range []string{media, bare, class + "/*", "*/*"} {
		if v, _ := d.At(pointer + "/content/" + Escape(listed)); v != nil {
			return listed
		}
	}
	return ""
}

// CheckSchema holds a JSON text against the schema at a pointer.
func (d *Document) CheckSchema(pointer string, body []byte) error {
	schema, err := d.schemas.Compile(resource + "#" + pointer)
	if err != nil {
		return fmt.Errorf("compile the schema: %w", err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("not JSON: %w: %s", err, body)
	}
	if err := schema.Validate(v); err != nil {
		return fmt.Errorf("%s: %w\n%s", pointer, err, body)
	}
	return nil
}
