package httpapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// route is one operation of the API: the method and path it answers, and how.
type route struct {
	method string // GET answers HEAD too
	path   string // a segment in braces is the parameter; a last segment * is the rest
	op     string // the operation's name in metrics and in the OpenAPI document
	query  []string
	handle func(*call) error
	waits  bool         // the body may ask for more time: without X-Timeout-Ms the router sets the deadline
	raw    http.Handler // instead of handle: writes its answer itself and knows its own parameters

	segments []string
	seconds  prometheus.Observer
	ended    *answerCounts
}

// routeTable finds the route of a request. It does not change once it is built.
type routeTable struct {
	fixed   map[string][]*route // by path, of routes without a parameter
	dynamic []*route
}

// newRouteTable builds the table of some routes.
func newRouteTable(routes []route, m *Metrics) *routeTable {
	t := &routeTable{fixed: make(map[string][]*route)}
	for i := range routes {
		r := &routes[i]
		r.segments = strings.Split(r.path[1:], "/")
		r.seconds, r.ended = m.seconds.WithLabelValues(r.op), newAnswerCounts(r.op)
		if strings.ContainsAny(r.path, "{*") {
			t.dynamic = append(t.dynamic, r)
		} else {
			t.fixed[r.path] = append(t.fixed[r.path], r)
		}
	}
	return t
}

// find gives the route for a method and an escaped path, and the path's
// parameter. Without a route, allow lists the methods that the path takes; it
// is empty when the path is not known at all.
func (t *routeTable) find(method, path string) (r *route, arg, allow string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, r = range t.fixed[path] {
		if r.method == method {
			return r, "", ""
		}
		allow = addMethod(allow, r.method)
	}
	for _, r = range t.dynamic {
		arg, ok := r.match(path)
		switch {
		case !ok:
		case r.method == method:
			return r, arg, ""
		default:
			allow = addMethod(allow, r.method)
		}
	}
	return nil, "", allow
}

// addMethod adds a method to the value of an Allow header.
func addMethod(allow, method string) string {
	if method == http.MethodGet {
		method = "GET, HEAD"
	}
	if allow == "" {
		return method
	}
	return allow + ", " + method
}

// match tells whether an escaped path is the route's, and gives its parameter.
func (r *route) match(path string) (arg string, ok bool) {
	rest, more := strings.CutPrefix(path, "/")
	if !more {
		return "", false
	}
	for _, want := range r.segments {
		if want == "*" {
			return arg, more
		}
		if !more {
			return "", false
		}
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if want[:1] != "{" {
			if segment != want {
				return "", false
			}
			continue
		}
		unescaped, err := url.PathUnescape(segment)
		if err != nil || unescaped == "" {
			return "", false
		}
		arg = unescaped
	}
	return arg, !more
}
