package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"stockade/bench"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"number": number, "thousands": thousands, "words": words,
	"percent": func(v float64) float64 { return 100 * v },
}).Parse(pageText))

// pageData is what the template shows.
type pageData struct {
	*bench.Result
	How, Machine, Proof  string
	Rates, Latency, Dist template.HTML
	Legend               []series
}

// outcomeSeries are the layers of the chart of rates; their classes are colours.
var outcomeSeries = []series{
	{name: "accepted", class: "accepted"}, {name: "sold_out", class: "sold"}, {name: "rejected", class: "rejected"},
	{name: "not_done", class: "busy"}, {name: "unknown", class: "unknown"}, {name: "gave_up", class: "gone"},
}

// HTML writes a result as a page that needs no network and no script.
func HTML(w io.Writer, r *bench.Result) error {
	d := pageData{Result: r, How: how(&r.Settings), Machine: machine(&r.Machine), Proof: ProofLine(&r.Proof)}
	if n := len(r.Windows); n > 0 {
		d.charts(r.Windows)
	}
	if l, _ := find(r, "reserve", "accepted"); len(l.Curve) > 1 {
		var percentiles, ms []float64
		for _, p := range l.Curve {
			percentiles, ms = append(percentiles, p.Percentile), append(ms, p.Ms)
		}
		d.Dist = distribution("Latency of accepted reservations by percentile", percentiles, ms)
	}
	if err := page.Execute(w, &d); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// charts draws what happened over time. The last window is left out when it is only a
// part of a second.
func (d *pageData) charts(windows []bench.Window) {
	if n := len(windows); n > 1 && windows[n-1].Seconds < fullWindow {
		windows = windows[:n-1]
	}
	var at []float64
	p := []series{{name: "p50", class: "p50"}, {name: "p99", class: "p99"}, {name: "p99.9", class: "p999"}}
	rates := make([]series, len(outcomeSeries))
	copy(rates, outcomeSeries)
	for i := range windows {
		w := &windows[i]
		at = append(at, w.At+w.Seconds/2)
		for j, v := range []float64{w.P50, w.P99, w.P999} {
			p[j].y = append(p[j].y, v)
		}
		for j := range rates {
			rates[j].y = append(rates[j].y, float64(w.Outcomes[rates[j].name])/max(w.Seconds, 0.001))
		}
	}
	for _, s := range rates {
		for _, v := range s.y {
			if v > 0 {
				d.Legend = append(d.Legend, s)
				break
			}
		}
	}
	d.Rates = stacked("Reservations a second", at, rates)
	d.Latency = lines("Latency of accepted reservations", at, p)
}

// Name and Class are for the template.
func (s series) Name() string { return s.name }

// Class is the colour.
func (s series) Class() string { return s.class }
