# Stockade's chores. `make help` lists them.

GO ?= go

# The linter, and what runs the tests and tells which were skipped, are Go programs
# pinned in tools.mod, apart from go.mod so that their dependencies stay out of the
# product's.
LINT = $(GO) tool -modfile=tools.mod golangci-lint
TEST = $(GO) tool -modfile=tools.mod gotestsum --format standard-quiet --

# How long each fuzz target runs, and which benchmarks: change on the command line.
FUZZTIME ?= 30s

# How many random clusters the simulator of the protocol runs, and how many the one
# of whole nodes.
SEEDS    ?= 10000
CLUSTERS ?= 50
MOMENTS  ?= 500

# How long processes are killed and stopped at random (a soak has a default of its own),
# and how many leaders are killed for the figures.
MINUTES ?= 10
KILLS   ?= 50

BENCH    ?= .
BENCHPKG ?= ./allocator

# How long each way of reserving is measured, and how often.
PEERTIME  ?= 3s
PEERCOUNT ?= 5

# A test that hangs is stopped before CI's own limit, so that its goroutines are printed.
TESTTIME ?= 12m

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

# The race detector and spin need a C compiler; one test pastes the README's curl lines;
# tests of failing disks make syncs fail with strace, and small disks; those of networks
# build hosts with ip and nft.
CC ?= cc

.DEFAULT_GOAL := help
.PHONY: help test deps manifests test-prometheus lint vet model unit slow sim sim-slice chaos chaos-slice soak failover mutants sellout fuzz bench bench-go bench-http bench-peers rebalance-table build fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The order: cheap and telling first; the tests last, so that their closing lines
# are the last lines of a run. The root package's test checks the repository itself.
test: deps vet lint model manifests unit slow sim-slice chaos-slice ## everything CI checks; installs what it needs

# Packages of Debian, each with the command that tells whether it is there.
deps: ## install what the tests need and the machine lacks (C compiler, curl, spin, strace, mkfs.ext4, ip, nft, Prometheus, HAProxy)
	@need=; \
	  command -v $(CC) >/dev/null || command -v gcc >/dev/null || need="$$need gcc libc6-dev"; \
	  command -v curl >/dev/null || need="$$need curl"; \
	  command -v spin >/dev/null || need="$$need spin"; \
	  command -v strace >/dev/null || need="$$need strace"; \
	  PATH="$$PATH:/usr/sbin:/sbin"; \
	  command -v mkfs.ext4 >/dev/null || need="$$need e2fsprogs"; \
	  command -v ip >/dev/null || need="$$need iproute2"; \
	  command -v nft >/dev/null || need="$$need nftables"; \
	  command -v promtool >/dev/null || need="$$need prometheus"; \
	  command -v haproxy >/dev/null || need="$$need haproxy"; \
	  command -v systemd-analyze >/dev/null || need="$$need systemd"; \
	  [ -z "$$need" ] && exit 0; \
	  echo "installing$$need"; \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$need; } >/dev/null \
	  || { echo "install these first (Debian: apt-get install$$need)" >&2; exit 1; }

lint: ## golangci-lint with .golangci.yml; the first run builds it (about two minutes)
	@$(LINT) run ./...

vet: ## go vet
	@$(GO) vet ./...
	@cd bench/peers && $(GO) vet ./...

# All states of transfers, refusals and pulls: see shard/model/README.md.
model: deps ## check the models of the protocols with spin
	@shard/model/run.sh

unit: ## all tests but the slowest, with the race detector
	@$(TEST) -race -timeout $(TESTTIME) -skip '$(CHAOS)' ./...

# The slowest tests are called TestSlow… and stand in files with `//go:build !race`.
slow: ## the slowest tests, without the race detector
	@pkgs=$$(grep -rl --include='*_test.go' '^func TestSlow' . | xargs -r -n1 dirname | sort -u); \
	  [ -z "$$pkgs" ] || $(GO) test -timeout $(TESTTIME) -run '^TestSlow' $$pkgs

# Simulated disks sync nothing by themselves, but what is beside them is real: on a
# file system in memory it is twice as fast.
sim: ## simulate SEEDS random clusters by protocol, power failures at MOMENTS, CLUSTERS of whole nodes, and scenes (default 10000, 500 and 50, some minutes)
	@STOCKADE_SIM_SEEDS=$(SEEDS) $(GO) test -timeout 10h -count 1 -run '^TestProtocol$$' -v ./shard/line
	@[ ! -w /dev/shm ] || export TMPDIR=/dev/shm; \
	  POWERLOSS_MOMENTS=$(MOMENTS) $(GO) test -timeout 10h -count 1 -run '^TestPowerLoss$$' -v ./shard && \
	  CLUSTERSIM_SEEDS=$(CLUSTERS) CLUSTERSIM_FAULTS=60 $(GO) test -timeout 10h -count 1 -v ./bench/clustersim

# What CI runs of it.
sim-slice:
	@$(MAKE) --no-print-directory sim SEEDS=1500 MOMENTS=40 CLUSTERS=6

# The second also cuts networks and breaks disks, where it may.
CHAOS = ^(TestChaos|TestNemesis)$$

chaos: ## sell twice for MINUTES (default 10) while processes are killed at random, and networks and disks fail
	@CHAOS_MINUTES=$(MINUTES) $(GO) test -timeout 24h -count 1 -run '$(CHAOS)' -v ./cmd/stockade

# What CI runs of it.
chaos-slice:
	@$(MAKE) --no-print-directory chaos MINUTES=1.5

soak: MINUTES = 60
soak: ## sell at a steady pace for MINUTES (default 60), and watch memory, disk, descriptors and goroutines
	@SOAK_MINUTES=$(MINUTES) $(GO) test -timeout 24h -count 1 -run '^TestSoak$$' -v ./cmd/stockade

manifests: ## hold the Kubernetes manifests against Kubernetes's own types, in a module of their own
	@cd deploy/kubernetes && $(GO) test ./...

test-prometheus: deps ## sell 100,000 units for a minute before a real Prometheus, and ask it all that panels, rules and alerts ask
	@PROMETHEUS_SECONDS=60 PROMETHEUS_UNITS=100000 $(GO) test -timeout 20m -count 1 -run '^TestPrometheus$$' -v ./cmd/stockade

failover: ## kill a leader KILLS times (default 50) under load through ROUTERS (default none), and show how long its shards sell nothing
	@FAILOVER_KILLS=$(KILLS) FAILOVER_ROUTERS=$(ROUTERS) $(GO) test -timeout 24h -count 1 -run '^TestFailover$$' -v ./cmd/stockade

mutants: ## plant known bugs one by one; each must make its test fail (some minutes)
	@bench/mutants/run.sh

sellout: ## sell 100,000 units in four ways to 256 connections (some minutes)
	@$(GO) test -timeout 20m -tags huge -count 1 -run '^TestHugeSellOut' -v ./cmd/stockade

fuzz: ## run every fuzz target for FUZZTIME (default 30s)
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func / /' | while read -r file target; do \
	  echo "$$target in $$(dirname $$file)"; \
	  $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname $$file)" || exit 1; \
	done

bench: ## the ratios of docs/performance.md to their targets, in one run (ten minutes); installs Redis, PostgreSQL, wrk
	@bench/peers/install.sh
	@cd bench/peers && $(GO) test -timeout 1h -count 1 -run '^TestTargets$$' -v .

bench-go: ## run the Go benchmarks that match BENCH in BENCHPKG (default: all of ./allocator)
	@$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(BENCHPKG)

bench-http: ## reservations, refusals or floods (MODE, see bench/http.sh) beside a handler that does nothing; installs wrk
	@bench/http.sh

bench-peers: ## what else reserves stock (PostgreSQL, Redis, etcd): clients that die, then rates; installs the servers
	@bench/peers/install.sh
	@cd bench/peers && $(GO) test -timeout 1h -count 1 -run '^TestCrash$$' -v .
	@cd bench/peers && $(GO) test -timeout 1h -run '^$$' -bench '^BenchmarkPeer$$' -benchtime $(PEERTIME) -count $(PEERCOUNT) .

rebalance-table: ## simulate the planner of transfers, and write the tables of docs/rebalancing.md
	@$(GO) test -count 1 -timeout $(TESTTIME) -run '^TestSlowTable$$' ./shard/rebalance -update

build: ## build bin/stockade
	@$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/stockade ./cmd/stockade

fmt: ## format the Go files
	@$(LINT) fmt ./...

clean: ## remove what build made
	@rm -rf bin
