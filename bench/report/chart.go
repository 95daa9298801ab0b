package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// A chart is drawn as SVG here, so that a report needs no script and no network.

// Size of a chart and of its margins, in pixels.
const (
	chartWidth, chartHeight         = 860, 260
	marginLeft, marginRight         = 64, 24
	marginTop, marginBottom         = 12, 32
	plotWidth, plotHeight           = chartWidth - marginLeft - marginRight, chartHeight - marginTop - marginBottom
	gridLines                       = 4
	ticksX                          = 8
	bottom                  float64 = marginTop + plotHeight
)

// series is one line or one layer of a chart.
type series struct {
	name  string
	class string // of its colour, in the page's style
	y     []float64
}

// axis maps values to pixels.
type axis struct {
	low, high float64
	log       bool
}

func (a axis) part(v float64) float64 {
	if a.log {
		return math.Log(max(v, a.low)/a.low) / math.Log(a.high/a.low)
	}
	return (v - a.low) / (a.high - a.low)
}

// upTo is an axis from 0 to a round number that is not less than v.
func upTo(v float64) axis {
	if v <= 0 {
		return axis{0, 1, false}
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 4, 5, 8, 10} {
		if v <= n*unit {
			return axis{0, n * unit, false}
		}
	}
	return axis{0, v, false}
}

// canvas collects the parts of a chart.
type canvas struct {
	strings.Builder
	x, y axis
}

func newCanvas(title string, x, y axis) *canvas {
	c := &canvas{x: x, y: y}
	fmt.Fprintf(c, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(title))
	return c
}

func (c *canvas) at(x, y float64) (px, py float64) {
	return marginLeft + plotWidth*c.x.part(x), bottom - plotHeight*c.y.part(y)
}

// gridY draws a line for a value, with its label.
func (c *canvas) gridY(v float64, label string) {
	_, y := c.at(c.x.low, v)
	fmt.Fprintf(c, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="label" x="%d" y="%.1f" text-anchor="end">%s</text>`,
		marginLeft, marginLeft+plotWidth, y, y, marginLeft-8, y+4, label)
}

func (c *canvas) labelX(v float64, label string) {
	x, _ := c.at(v, c.y.low)
	fmt.Fprintf(c, `<text class="label" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, x, bottom+20, label)
}

// line draws a series over its places.
func (c *canvas) line(class string, xs, ys []float64) {
	var points []string
	for i := range xs {
		x, y := c.at(xs[i], ys[i])
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
	}
	fmt.Fprintf(c, `<polyline class="line %s" points="%s"/>`, class, strings.Join(points, " "))
}

// area fills between two series.
func (c *canvas) area(class string, xs, from, to []float64) {
	var points []string
	for i := range xs {
		x, y := c.at(xs[i], to[i])
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
	}
	for i := len(xs) - 1; i >= 0; i-- {
		x, y := c.at(xs[i], from[i])
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
	}
	fmt.Fprintf(c, `<polygon class="area %s" points="%s"/>`, class, strings.Join(points, " "))
}

func (c *canvas) end() template.HTML {
	c.WriteString(`</svg>`)
	return template.HTML(c.String())
}

// grid draws the lines and labels of linear axes.
func (c *canvas) grid() {
	for i := range gridLines + 1 {
		v := c.y.high * float64(i) / gridLines
		c.gridY(v, number(v))
	}
	c.seconds()
}

// seconds labels the axis of time, in steps that are round numbers.
func (c *canvas) seconds() {
	step := upTo(c.x.high / ticksX).high
	for v := 0.0; v <= c.x.high; v += step {
		c.labelX(v, number(v)+" s")
	}
}

// stacked draws series on top of each other over the time in seconds.
func stacked(title string, xs []float64, all []series) template.HTML {
	sums := make([]float64, len(xs))
	layers := [][]float64{append([]float64(nil), sums...)}
	highest := 0.0
	for _, s := range all {
		for i := range sums {
			sums[i] += s.y[i]
			highest = max(highest, sums[i])
		}
		layers = append(layers, append([]float64(nil), sums...))
	}
	c := newCanvas(title, axis{low: 0, high: max(1, xs[len(xs)-1])}, upTo(highest))
	c.grid()
	for i, s := range all {
		c.area(s.class, xs, layers[i], layers[i+1])
	}
	return c.end()
}

// lines draws series over the time in seconds, on a logarithmic scale of milliseconds.
func lines(title string, xs []float64, all []series) template.HTML {
	low, high := math.Inf(1), 0.0
	for _, s := range all {
		for _, v := range s.y {
			if v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	c := newCanvas(title, axis{low: 0, high: max(1, xs[len(xs)-1])}, decades(low, high))
	c.logGrid()
	c.seconds()
	for _, s := range all {
		c.line(s.class, xs, s.y)
	}
	return c.end()
}

// decades is a logarithmic axis of whole powers of ten around two values.
func decades(low, high float64) axis {
	if high <= 0 {
		return axis{0.1, 1, true}
	}
	a := axis{math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high))), true}
	if a.low == a.high {
		a.high *= 10
	}
	return a
}

func (c *canvas) logGrid() {
	for v := c.y.low; v <= c.y.high*1.001; v *= 10 {
		c.gridY(v, number(v))
	}
}

// distribution draws latencies over percentiles, of which those near 100 get the most
// room.
func distribution(title string, percentiles, ms []float64) template.HTML {
	ends := 1.0
	for _, p := range percentiles {
		if p < 100 {
			ends = max(ends, math.Log10(100/(100-p)))
		}
	}
	xs := make([]float64, len(percentiles))
	for i, p := range percentiles {
		xs[i] = ends
		if p < 100 {
			xs[i] = math.Log10(100 / (100 - p))
		}
	}
	c := newCanvas(title, axis{low: 0, high: ends}, decades(max(ms[0], 1e-3), ms[len(ms)-1]))
	c.logGrid()
	for i, name := range []string{"0", "90", "99", "99.9", "99.99", "99.999", "99.9999"} {
		if float64(i) <= ends {
			c.labelX(float64(i), name+" %")
		}
	}
	c.line("accepted", xs, ms)
	return c.end()
}
