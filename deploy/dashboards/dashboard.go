// Package dashboards makes Grafana's dashboards of Stockade from what their panels ask
// and mean. The JSON in deploy/grafana/dashboards is its output:
//
//	go test ./deploy/dashboards -update
package dashboards

import (
	"encoding/json"
	"fmt"
)

// Dashboard is one page.
type Dashboard struct {
	UID, Title, Description string
	Rows                    []Row
}

// Row is a heading with panels under it.
type Row struct {
	Title  string
	Panels []Panel
}

// Kind is how a panel shows its queries.
type Kind string

// Kinds of panels.
const (
	Graph Kind = "timeseries"
	Stat  Kind = "stat" // the last value, large
	Table Kind = "table"
)

// Unit is what a panel's numbers are, as Grafana names it.
type Unit string

// Units.
const (
	Count     Unit = "short"
	PerSecond Unit = "ops"
	Seconds   Unit = "s"
	Bytes     Unit = "bytes"
	Ratio     Unit = "percentunit"
)

// Panel is one chart.
type Panel struct {
	Title       string
	Description string // what it shows, and what to think of it
	Kind        Kind
	Unit        Unit
	Queries     []Query
	// Bad is from where on a value is shown as bad; nil: never.
	Bad *float64
}

// Query is an expression with what its lines are called.
type Query struct {
	Expr   string
	Legend string
}

// Sizes of Grafana's grid.
const (
	gridWidth   = 24
	graphHeight = 8
	statHeight  = 4
	statWidth   = 4
	graphWidth  = 12
)

// object is a JSON object; its keys are written in order of their names.
type object = map[string]any

// Encode gives the dashboard as Grafana reads it.
func (d *Dashboard) Encode() ([]byte, error) {
	l := layout{}
	for _, r := range d.Rows {
		l.row(r)
	}
	b, err := json.MarshalIndent(object{
		"uid": d.UID, "title": d.Title, "description": d.Description, "tags": []string{"stockade"},
		"schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "5s", "timezone": "browser",
		"time": object{"from": "now-15m", "to": "now"},
		"templating": object{"list": []object{{
			"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
		}}},
		"panels": l.panels,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode dashboard %s: %w", d.UID, err)
	}
	return append(b, '\n'), nil
}

// layout puts panels on the grid, from left to right and down.
type layout struct {
	panels       []object
	x, y, height int
}

func (l *layout) row(r Row) {
	l.newLine()
	l.panels = append(l.panels, object{
		"id": len(l.panels) + 1, "type": "row", "title": r.Title, "collapsed": false, "panels": []object{},
		"gridPos": object{"x": 0, "y": l.y, "w": gridWidth, "h": 1},
	})
	l.y++
	for _, p := range r.Panels {
		l.panel(p)
	}
}

func (l *layout) newLine() {
	l.y += l.height
	l.x, l.height = 0, 0
}

func (l *layout) panel(p Panel) {
	w, h := graphWidth, graphHeight
	if p.Kind == Stat {
		w, h = statWidth, statHeight
	}
	if l.x+w > gridWidth {
		l.newLine()
	}
	source := object{"type": "prometheus", "uid": "${datasource}"}
	var targets []object
	for i, q := range p.Queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "expr": q.Expr, "legendFormat": q.Legend, "datasource": source,
			"instant": p.Kind != Graph, "range": p.Kind == Graph,
		})
	}
	steps := []object{{"color": "green", "value": nil}}
	if p.Bad != nil {
		steps = append(steps, object{"color": "red", "value": *p.Bad})
	}
	l.panels = append(l.panels, object{
		"id": len(l.panels) + 1, "type": string(p.Kind), "title": p.Title, "description": p.Description,
		"gridPos": object{"x": l.x, "y": l.y, "w": w, "h": h}, "datasource": source, "targets": targets,
		"fieldConfig": object{"overrides": []object{}, "defaults": object{
			"unit": string(p.Unit), "min": 0,
			"color": object{"mode": colour(p)}, "thresholds": object{"mode": "absolute", "steps": steps},
		}},
		"options": options(p.Kind),
	})
	l.x += w
	l.height = max(l.height, h)
}

func colour(p Panel) string {
	if p.Kind == Stat {
		return "thresholds"
	}
	return "palette-classic"
}

func options(k Kind) object {
	if k == Graph {
		return object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	}
	return object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}}
}
