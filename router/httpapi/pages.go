package httpapi

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"stockade/router/api"
)

// The forms in which a page can be had.
const (
	htmlType = "text/html"
	textType = "text/plain"
)

var (
	htmlHeader = []string{htmlType + "; charset=utf-8"}
	textHeader = []string{textType + "; charset=utf-8"}
)

//go:embed pages.html
var pagesHTML string

// pageTemplates are the page of a problem and the index.
var pageTemplates = template.Must(template.New("").Parse(pagesHTML))

// The operations of the pages.
const (
	opProblems = "list_problems"
	opProblem  = "get_problem"
)

// problemRoutes lists the pages that explain problems. Both ports have them, so
// that a relative type leads to its page.
func problemRoutes() []route {
	return []route{
		{method: "GET", path: "/problems", op: opProblems, handle: problemIndex},
		{method: "GET", path: "/problems/{code}", op: opProblem, handle: problemPage},
	}
}

// Explain gives the explanation of a problem's code, as `stockade explain CODE`
// prints it. It reports false when there is no such code.
func Explain(code string) (api.Explanation, bool) {
	row, ok := byCode[code]
	if !ok {
		return api.Explanation{}, false
	}
	return row.Explanation, true
}

// Explanations lists all explanations: refusals in their order of precedence,
// then everything else that can go wrong.
func Explanations() []api.Explanation {
	all := make([]api.Explanation, len(problems))
	for i := range problems {
		all[i] = problems[i].Explanation
	}
	return all
}

// ExplainText writes an explanation as plain text, ending in a newline.
func ExplainText(e api.Explanation) string {
	var b strings.Builder
	b.WriteString(e.Code + " (HTTP " + strconv.Itoa(e.Status) + "): " + e.Title + "\n\n")
	for _, part := range []struct{ head, text string }{
		{"What happened", e.What}, {"Was anything done?", e.Done}, {"Retry?", e.Retry}, {"What to do", e.Do},
	} {
		b.WriteString(part.head + "\n  " + part.text + "\n")
	}
	return b.String()
}

// problemPage is GET /problems/{code}.
func problemPage(c *call) error {
	if err := c.faults(); err != nil {
		return err
	}
	e, ok := Explain(c.arg)
	if !ok {
		return &httpProblem{codeNoPath, "There is no problem with the code " + strconv.Quote(c.arg) + "; /problems lists them all."}
	}
	switch c.preferred() {
	case htmlType:
		return c.page("problem", e)
	case textType:
		c.text(ExplainText(e))
	default:
		c.document(http.StatusOK, e)
	}
	return nil
}

// problemIndex is GET /problems.
func problemIndex(c *call) error {
	if err := c.faults(); err != nil {
		return err
	}
	switch c.preferred() {
	case htmlType:
		return c.page("index", Explanations())
	case textType:
		var b strings.Builder
		for _, e := range Explanations() {
			b.WriteString(strconv.Itoa(e.Status) + " " + e.Code + ": " + e.Title + "\n")
		}
		c.text(b.String())
	default:
		c.document(http.StatusOK, api.Explanations{Problems: Explanations()})
	}
	return nil
}

// page answers with HTML.
func (c *call) page(name string, data any) error {
	var b bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	c.out = append(c.out[:0], b.Bytes()...)
	h := c.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept")
	c.write(http.StatusOK, htmlHeader)
	return nil
}

// text answers with plain text.
func (c *call) text(s string) {
	c.out = append(c.out[:0], s...)
	c.write(http.StatusOK, textHeader)
}

// preferred tells which form of a page the client wants: JSON, unless the Accept
// header puts HTML or plain text before it.
func (c *call) preferred() string {
	best, bestQ := jsonType, 0.0
	for _, part := range strings.Split(strings.Join(c.r.Header["Accept"], ","), ",") {
		media, params, _ := strings.Cut(part, ";")
		media = strings.ToLower(strings.TrimSpace(media))
		switch media {
		case "*/*", "application/*":
			media = jsonType
		case "text/*":
			media = textType
		case jsonType, htmlType, textType:
		default:
			continue
		}
		if q := quality(params); q > bestQ {
			best, bestQ = media, q
		}
	}
	return best
}

// quality reads the weight of a media range; 1 when it has none.
func quality(params string) float64 {
	for _, param := range strings.Split(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
			return q
		}
		return 0
	}
	return 1
}
