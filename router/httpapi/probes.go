package httpapi

import (
	"context"
	"net/http"

	"stockade/router/api"
)

// The operations of the probes.
const (
	opLive    = "livez"
	opReady   = "readyz"
	opStartup = "startupz"
)

// Health is what the probes ask of the process. Its methods are safe for
// concurrent use and answer at once, from what is known.
type Health interface {
	// Live gives an error only for what a restart of the process mends. It says
	// what is wrong. An election is no reason.
	Live() error
	// Started tells whether the start is over, whatever came after it.
	Started() bool
	// Ready tells whether the node serves and, per shard, what is missing.
	Ready(ctx context.Context) api.Readiness
}

// probes are the operations that Kubernetes and load balancers ask.
type probes struct{ health Health }

// routes lists the probes. They need no token.
func (p *probes) routes() []route {
	return []route{
		{method: "GET", path: "/livez", op: opLive, handle: p.live},
		{method: "GET", path: "/readyz", op: opReady, query: []string{"verbose"}, handle: p.ready},
		{method: "GET", path: "/startupz", op: opStartup, handle: p.startup},
	}
}

// live is GET /livez.
func (p *probes) live(c *call) error {
	if err := p.health.Live(); err != nil {
		return &httpProblem{codeNotLive, "The process needs a restart: " + err.Error() + "."}
	}
	c.text("live\n")
	return nil
}

// startup is GET /startupz.
func (p *probes) startup(c *call) error {
	if !p.health.Started() {
		return &httpProblem{codeNotReady, "The node is still starting."}
	}
	c.text("started\n")
	return nil
}

// ready is GET /readyz. With verbose=1 the answer lists the shards, ready or not.
func (p *probes) ready(c *call) error {
	verbose := c.verbose()
	if err := c.faults(); err != nil {
		return err
	}
	state := p.health.Ready(c.ctx)
	if !state.Ready {
		answer := c.app.problem(byCode[codeNotReady], notReadyDetail(state.Shards))
		if verbose {
			answer.Shards = state.Shards
		}
		c.writeProblem(answer, 0)
		return nil
	}
	if verbose {
		c.document(http.StatusOK, state)
		return nil
	}
	c.text("ready\n")
	return nil
}

// verbose reads the parameter verbose.
func (c *call) verbose() bool {
	switch value := c.query.Get("verbose"); value {
	case "1", "true":
		return true
	case "", "0", "false":
		return false
	default:
		c.badParam("verbose", "must be 1 or 0")
		return false
	}
}

// notReadyDetail names the first shard that is missing, and why.
func notReadyDetail(shards []api.ShardReadiness) string {
	missing := 0
	var first api.ShardReadiness
	for _, s := range shards {
		if s.Ready {
			continue
		}
		if missing++; missing == 1 {
			first = s
		}
	}
	if missing == 0 {
		return "The node does not serve yet."
	}
	text := "Shard " + units(int64(first.Shard)) + ": " + first.Missing + since(first.Since.Time())
	if missing > 1 {
		text += ", and " + units(int64(missing-1)) + " more"
	}
	return text + ". /readyz?verbose=1 lists them."
}
