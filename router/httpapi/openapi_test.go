package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"stockade/router"
	"stockade/router/api"
)

// The tests in this file hold the handlers against openapi.json: every answer
// that a harness fetches (checkAnswer), the routes, the codes of problems, and
// the examples.

// openDoc is the parsed OpenAPI document with its schemas ready for use.
type openDoc struct {
	root    map[string]any
	schemas *jsonschema.Compiler
}

// loadDoc parses the document once. Objects are closed first: a field that an
// answer has and the document lacks is a fault here, though clients must bear it.
var loadDoc = sync.OnceValue(func() *openDoc {
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPIDocument))
	if err != nil {
		panic(err)
	}
	closeObjects(root)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("mem:///openapi.json", root); err != nil {
		panic(err)
	}
	return &openDoc{root: root.(map[string]any), schemas: c}
})

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

// at follows a JSON Pointer, and references on its way; it gives the pointer of
// what it found.
func (d *openDoc) at(pointer string) (any, string) {
	v := any(d.root)
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		m, ok := v.(map[string]any)
		if !ok {
			return nil, pointer
		}
		v = m[token]
	}
	if m, ok := v.(map[string]any); ok && m["$ref"] != nil {
		return d.at(strings.TrimPrefix(m["$ref"].(string), "#"))
	}
	return v, pointer
}

// escapePointer writes a name as a token of a JSON Pointer.
func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// docPath is the document's name for a route's path.
func docPath(path string) string { return strings.Replace(path, "*", "{page}", 1) }

// routeOf finds the route that answered a request.
func routeOf(r *http.Request) *route {
	t := newRouteTable(allRoutes(onData(r.URL.Path)), NewMetrics(newRegistry()))
	found, _, _ := t.find(r.Method, r.URL.EscapedPath())
	return found
}

// checkAnswer holds an answer against the document: its status is listed, its
// body fits the schema, its headers are there.
func checkAnswer(t *testing.T, r *http.Request, a *answer) {
	t.Helper()
	if a.Header.Get(headerRequestID) == "" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s: Request-Id or Cache-Control is missing", r.Method, r.URL)
	}
	route := routeOf(r)
	doc := loadDoc()
	if route == nil { // documented once, in the document's description
		checkBody(t, doc, "/components/responses/NotFound", a)
		return
	}
	if route.raw != nil {
		return
	}
	status := strconv.Itoa(a.StatusCode)
	response, pointer := doc.at("/paths/" + escapePointer(docPath(route.path)) + "/" + strings.ToLower(route.method) + "/responses/" + status)
	if response == nil {
		t.Errorf("%s %s: the document does not list status %s", route.method, route.path, status)
		return
	}
	checkHeaders(t, doc, response.(map[string]any), a)
	if r.Method != http.MethodHead {
		checkBody(t, doc, pointer, a)
	}
}

// checkHeaders wants the headers that the document requires.
func checkHeaders(t *testing.T, doc *openDoc, response map[string]any, a *answer) {
	t.Helper()
	headers, _ := response["headers"].(map[string]any)
	for name := range headers {
		h, _ := doc.at("/components/headers/" + name)
		if required, _ := h.(map[string]any)["required"].(bool); required && a.Header.Get(name) == "" {
			t.Errorf("the header %s is missing", name)
		}
	}
}

// checkBody holds a body against the schema of its media type.
func checkBody(t *testing.T, doc *openDoc, pointer string, a *answer) {
	t.Helper()
	media := a.Header.Get(headerContentType)
	pointer += "/content/" + escapePointer(media) + "/schema"
	if v, _ := doc.at(pointer); v == nil {
		t.Errorf("the document does not list %s at %s", media, pointer)
		return
	}
	if !strings.HasSuffix(media, "json") {
		return
	}
	checkSchema(t, doc, pointer, a.body)
}

// checkSchema holds a document against a schema.
func checkSchema(t *testing.T, doc *openDoc, pointer string, body []byte) {
	t.Helper()
	schema, err := doc.schemas.Compile("mem:///openapi.json#" + pointer)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("not JSON: %v: %s", err, body)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%s: %v\n%s", pointer, err, body)
	}
}

// TestOpenAPIHasEveryRoute compares routes and document, both ways.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	doc := loadDoc()
	seen := make(map[string]bool)
	for _, data := range []bool{true, false} {
		for _, r := range allRoutes(data) {
			if r.op == opPprof && r.path != "/debug/pprof/*" {
				continue // the document has one entry for all of them
			}
			pointer := "/paths/" + escapePointer(docPath(r.path))
			item, _ := doc.at(pointer)
			op, _ := doc.at(pointer + "/" + strings.ToLower(r.method))
			if op == nil {
				t.Errorf("the document lacks %s %s", r.method, r.path)
				continue
			}
			seen[r.method+" "+docPath(r.path)] = true
			checkOperation(t, doc, &r, op.(map[string]any))
			if !slices.Contains(ports(doc, item.(map[string]any)), map[bool]string{true: "data port", false: "ops port"}[data]) {
				t.Errorf("%s: the document has it on another port", r.path)
			}
		}
	}
	for path, item := range doc.root["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			if method != "servers" && !seen[strings.ToUpper(method)+" "+path] {
				t.Errorf("no route answers %s %s", method, path)
			}
		}
	}
}

// ports names the servers of a path.
func ports(doc *openDoc, item map[string]any) (names []string) {
	servers, ok := item["servers"].([]any)
	if !ok {
		servers = doc.root["servers"].([]any)
	}
	for _, s := range servers {
		names = append(names, s.(map[string]any)["description"].(string))
	}
	return names
}

// checkOperation compares an operation's name and query parameters.
func checkOperation(t *testing.T, doc *openDoc, r *route, op map[string]any) {
	t.Helper()
	if op["operationId"] != r.op {
		t.Errorf("%s %s is %s, the document says %v", r.method, r.path, r.op, op["operationId"])
	}
	var query []string
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		m := p.(map[string]any)
		if target, ok := m["$ref"].(string); ok {
			v, _ := doc.at(strings.TrimPrefix(target, "#"))
			m = v.(map[string]any)
		}
		if m["in"] == "query" {
			query = append(query, m["name"].(string))
		}
	}
	if !slices.Equal(query, r.query) {
		t.Errorf("%s takes the parameters %v, the document says %v", r.path, r.query, query)
	}
}

// TestOpenAPIHasEveryCode compares the table of problems with the document.
func TestOpenAPIHasEveryCode(t *testing.T) {
	v, _ := loadDoc().at("/components/schemas/ProblemCode/enum")
	var listed, table []string
	for _, code := range v.([]any) {
		listed = append(listed, code.(string))
	}
	for _, e := range Explanations() {
		table = append(table, e.Code)
	}
	slices.Sort(listed)
	slices.Sort(table)
	if !slices.Equal(listed, table) {
		t.Errorf("the document lists %v\nthe table has %v", listed, table)
	}
}

// TestOpenAPIExamples holds the examples against their schemas and, when they
// are bodies of requests, against the handlers.
func TestOpenAPIExamples(t *testing.T) {
	doc := loadDoc()
	examples := 0
	for name, schema := range doc.root["components"].(map[string]any)["schemas"].(map[string]any) {
		list, _ := schema.(map[string]any)["examples"].([]any)
		for _, example := range list {
			body, err := json.Marshal(example)
			if err != nil {
				t.Fatal(err)
			}
			checkSchema(t, doc, "/components/schemas/"+name, body)
			examples++
		}
	}
	if examples < 10 {
		t.Errorf("only %d examples were checked", examples)
	}
	h := newHarness(t)
	body, _ := doc.at("/components/schemas/ReserveRequest/examples")
	for _, example := range body.([]any) {
		text, _ := json.Marshal(example)
		h.do("POST", "/v1/reservations", string(text)).want(http.StatusCreated)
	}
}

// TestOpenAPIIsServed fetches it.
func TestOpenAPIIsServed(t *testing.T) {
	h := newHarness(t)
	if a := h.do("GET", "/openapi.json", "").want(http.StatusOK); !bytes.Equal(a.body, OpenAPI()) {
		t.Error("another document was served")
	}
}

// TestOpenAPIHasEveryField compares the types of package api with the schemas:
// the same fields, and required unless they may be left out.
func TestOpenAPIHasEveryField(t *testing.T) {
	for name, v := range map[string]any{
		"Line": api.Line{}, "ReserveBatchRequest": api.ReserveBatchRequest{}, "ConfirmRequest": api.ConfirmRequest{},
		"ExtendRequest": api.ExtendRequest{}, "ReturnRequest": api.ReturnRequest{}, "Action": api.Action{}, "ActionsRequest": api.ActionsRequest{},
		"Reservation": api.Reservation{}, "BatchResult": api.BatchResult{}, "BatchAnswer": api.BatchAnswer{}, "Availability": api.Availability{},
		"PutSKURequest": api.PutSKURequest{}, "SKU": api.SKU{}, "SKUVersion": api.SKUVersion{}, "Bucket": api.Bucket{},
		"SKUSummary": api.SKUSummary{}, "SKUPage": api.SKUPage{}, "RestockRequest": api.RestockRequest{}, "AdjustRequest": api.AdjustRequest{},
		"Audit": api.Audit{}, "AuditShard": api.AuditShard{}, "Cluster": api.Cluster{}, "Node": api.Node{}, "Shard": api.Shard{},
		"Readiness": api.Readiness{}, "ShardReadiness": api.ShardReadiness{}, "FieldError": api.FieldError{}, "Problem": api.Problem{},
		"Explanation": api.Explanation{}, "Explanations": api.Explanations{},
	} {
		schema, _ := loadDoc().at("/components/schemas/" + name)
		properties, _ := schema.(map[string]any)["properties"].(map[string]any)
		required, _ := schema.(map[string]any)["required"].([]any)
		fields := make(map[string]bool)
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if tag == "" {
				continue
			}
			fields[tag] = true
			if properties[tag] == nil {
				t.Errorf("%s: the document lacks %s", name, tag)
			}
			if must := slices.Contains(required, any(tag)); must != (options == "") {
				t.Errorf("%s.%s is required: %v in the document, %v in Go", name, tag, must, options == "")
			}
		}
		for property := range properties {
			if !fields[property] {
				t.Errorf("%s: Go lacks %s", name, property)
			}
		}
	}
}

// goodRequests are requests that are valid, one for each operation with a router
// or a body behind it.
var goodRequests = []struct{ method, path, body string }{
	{"POST", "/v1/reservations", oneDemo},
	{"POST", "/v1/reservations/batch", `{"reservations":[` + oneDemo + `]}`},
	{"GET", "/v1/reservations/" + anID, ""},
	{"POST", "/v1/reservations/" + anID + "/confirm", ""},
	{"POST", "/v1/reservations/" + anID + "/cancel", ""},
	{"POST", "/v1/reservations/" + anID + "/extend", `{"ttl_seconds":1}`},
	{"POST", "/v1/reservations/" + anID + "/return", ""},
	{"POST", "/v1/actions/batch", `{"actions":[{"op":"cancel","id":"` + anID + `"}]}`},
	{"GET", "/v1/skus/demo/availability", ""},
	{"GET", "/v1/skus", ""},
	{"GET", "/v1/skus/demo", ""},
	{"PUT", "/v1/skus/demo", `{}`},
	{"POST", "/v1/skus/demo/restock", `{"quantity":1}`},
	{"POST", "/v1/skus/demo/adjust", `{"delta":1,"reason":"x"}`},
	{"POST", "/v1/skus/demo/pause", ""},
	{"POST", "/v1/skus/demo/resume", ""},
	{"GET", "/v1/skus/demo/audit", ""},
	{"GET", "/v1/cluster", ""},
}

// TestEveryOperationFails sends a valid request to every operation while the
// router fails in each way. The harness checks that the document lists what
// comes out; a bad header must be refused everywhere.
func TestEveryOperationFails(t *testing.T) {
	reached := make(map[string]bool)
	for _, row := range goodRequests {
		h := newHarness(t)
		h.do(row.method, row.path, row.body, "Idempotency-Key: k", "X-Timeout-Ms: x").problem(http.StatusBadRequest, codeInvalid)
		if h.fake.calls != 0 {
			t.Errorf("%s %s reached the router", row.method, row.path)
		}
		if row.method != http.MethodGet {
			h.do(row.method, row.path, row.body, "Sec-Fetch-Site: cross-site").problem(http.StatusForbidden, codeCrossOrigin)
		}
		for _, err := range []error{nil, &router.Unavailable{Shard: 1}, &router.UnknownOutcome{Shard: 1}, errors.New("a bug")} {
			h.fake.fail = err
			headers := []string{"Idempotency-Key: k"}
			if strings.HasSuffix(row.path, "/batch") {
				headers = nil
			}
			h.do(row.method, row.path, row.body, headers...)
		}
		r := httptest.NewRequest(row.method, row.path, nil)
		reached[routeOf(r).op] = true
	}
	for _, r := range append(allRoutes(true), allRoutes(false)...) {
		if strings.HasPrefix(r.path, "/v1/") && !reached[r.op] {
			t.Errorf("%s is not tested", r.op)
		}
	}
}
