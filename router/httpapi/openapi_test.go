package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"stockade/router"
	"stockade/router/api"
	"stockade/router/httpapi/openapitest"
)

// The tests in this file hold the handlers against openapi.json: every answer
// that a harness fetches (checkAnswer), the routes, the codes of problems, and
// the examples.

// loadDoc parses the document once.
var loadDoc = sync.OnceValue(func() *openapitest.Document {
	doc, err := openapitest.Parse(openAPIDocument)
	if err != nil {
		panic(err)
	}
	return doc
})

// docPath is the document's name for a route's path.
func docPath(path string) string { return strings.Replace(path, "*", "{page}", 1) }

// routeOf finds the route that answered a request.
func routeOf(r *http.Request) *route {
	t := newRouteTable(allRoutes(onData(r.URL.Path)), NewMetrics(newRegistry()))
	found, _, _ := t.find(r.Method, r.URL.EscapedPath())
	return found
}

// checkAnswer holds an answer against the document.
func checkAnswer(t *testing.T, r *http.Request, a *answer) {
	t.Helper()
	if a.Header.Get(headerRequestID) == "" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s: Request-Id or Cache-Control is missing", r.Method, r.URL)
	}
	path := ""
	if route := routeOf(r); route != nil {
		if route.raw != nil {
			return
		}
		path = docPath(route.path)
	}
	err := loadDoc().Check(openapitest.Answer{Method: r.Method, Path: path, Status: a.StatusCode, Header: a.Header, Body: a.body})
	if err != nil {
		t.Error(err)
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
			pointer := "/paths/" + openapitest.Escape(docPath(r.path))
			item, _ := doc.At(pointer)
			op, _ := doc.At(pointer + "/" + strings.ToLower(r.method))
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
	for path, item := range doc.Root["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			if method != "servers" && !seen[strings.ToUpper(method)+" "+path] {
				t.Errorf("no route answers %s %s", method, path)
			}
		}
	}
}

// ports names the servers of a path.
func ports(doc *openapitest.Document, item map[string]any) (names []string) {
	servers, ok := item["servers"].([]any)
	if !ok {
		servers = doc.Root["servers"].([]any)
	}
	for _, s := range servers {
		names = append(names, s.(map[string]any)["description"].(string))
	}
	return names
}

// checkOperation compares an operation's name and query parameters.
func checkOperation(t *testing.T, doc *openapitest.Document, r *route, op map[string]any) {
	t.Helper()
	if op["operationId"] != r.op {
		t.Errorf("%s %s is %s, the document says %v", r.method, r.path, r.op, op["operationId"])
	}
	var query []string
	params, _ := op["parameters"].([]any)
	for _, p := range params {
		m := p.(map[string]any)
		if target, ok := m["$ref"].(string); ok {
			v, _ := doc.At(strings.TrimPrefix(target, "#"))
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
	v, _ := loadDoc().At("/components/schemas/ProblemCode/enum")
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
	for name, schema := range doc.Root["components"].(map[string]any)["schemas"].(map[string]any) {
		list, _ := schema.(map[string]any)["examples"].([]any)
		for _, example := range list {
			body, err := json.Marshal(example)
			if err != nil {
				t.Fatal(err)
			}
			if err := doc.CheckSchema("/components/schemas/"+name, body); err != nil {
				t.Error(err)
			}
			examples++
		}
	}
	if examples < 10 {
		t.Errorf("only %d examples were checked", examples)
	}
	h := newHarness(t)
	body, _ := doc.At("/components/schemas/ReserveRequest/examples")
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
		schema, _ := loadDoc().At("/components/schemas/" + name)
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
	{"GET", "/v1/nodes", ""},
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
