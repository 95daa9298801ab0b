#!/usr/bin/env bash
# Single reservations over HTTP, one per request without a key, against
# `stockade dev` (three nodes, fsync, everything on this machine), and beside it
# a handler that does nothing on the same HTTP stack. Rounds alternate, so that a
# noisy machine disturbs both alike; the ratio is of the medians.
#
# MODE says what is measured:
#   reserve       reservations of a SKU that has plenty (the default)
#   refuse        requests for a SKU that is sold out, without keys: refused by the router
#   refuse-keyed  the same with a key each: refused by the home shard's leader
#   flood         reservations, and beside them FLOOD connections that ask for SKUs
#                 that do not exist; compared with reservations alone
#
#   MODE=reserve ROUNDS=5 SECONDS_EACH=5 CONNECTIONS="64 256" SHARDS="" bench/http.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${ROUNDS:-5} each=${SECONDS_EACH:-5} connections=${CONNECTIONS:-64 256} shards=${SHARDS:-}
mode=${MODE:-reserve} flood=${FLOOD:-4}
command -v wrk >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y wrk; } >/dev/null

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
go build -o "$work/stockade" ./cmd/stockade
go build -o "$work/baseline" ./bench/baseline

"$work/baseline" 127.0.0.1:0 >"$work/baseline.addr" &
"$work/stockade" dev --http 127.0.0.1:0 --ops 127.0.0.1:0 --peer 127.0.0.1:0 --data-dir "$work/data" \
  ${shards:+--shards "$shards"} --seed demo=1000000000 --seed gone=1 --addr-file "$work/addr.json" >"$work/dev.log" 2>&1 &
dev=$!
for _ in $(seq 300); do [ -s "$work/addr.json" ] && break; sleep 0.1; done
[ -s "$work/addr.json" ] || { cat "$work/dev.log" >&2; exit 1; }
sell=http://$(sed 's/.*"http":"\([^"]*\)".*/\1/' "$work/addr.json")
ops=http://$(sed 's/.*"ops":"\([^"]*\)".*/\1/' "$work/addr.json")
nothing=http://$(cat "$work/baseline.addr")

cat >"$work/reserve.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"sku":"demo","quantity":1,"ttl_seconds":60}'
LUA
sed 's/"demo"/"gone"/' "$work/reserve.lua" >"$work/refuse.lua"
{ cat "$work/refuse.lua"; cat <<'LUA'; } >"$work/refuse-keyed.lua"
local seed, n = tostring({}):match('0x(%x+)'), 0
request = function()
  n = n + 1
  wrk.headers["Idempotency-Key"] = seed .. n
  return wrk.format()
end
LUA
{ cat "$work/reserve.lua"; cat <<'LUA'; } >"$work/made-up.lua"
local seed, n = tostring({}):match('0x(%x+)'), 0
request = function()
  n = n + 1
  return wrk.format(nil, nil, nil, '{"sku":"made-up-' .. seed .. n .. '","quantity":1}')
end
LUA
case $mode in reserve | flood) script=reserve ;; *) script=$mode ;; esac

# run URL CONNECTIONS: requests a second, p50, p99 and answers that were not 2xx.
run() {
  wrk -t1 -c"$2" -d"${each}s" --latency -s "$work/$script.lua" "$1/v1/reservations" | awk '
    /50%/ {p50 = $2} /99%/ {p99 = $2} /Requests\/sec/ {rate = $2} /Non-2xx/ {bad = $NF}
    END {print rate, p50, p99, bad + 0}'
}

# stats FILE: median, least and most of the first column, median-ish latencies.
stats() { sort -n "$1" | awk '{r[NR] = $1; p50[NR] = $2; p99[NR] = $3; bad += $4}
  END {m = int((NR + 1) / 2); printf "%.0f %.0f %.0f %s %s %d\n", r[m], r[1], r[NR], p50[m], p99[m], bad}'; }

# memory of the cluster's process, in MiB
memory() { awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$dev/status"; }

if [ "$mode" = flood ]; then
  # The flood has its own connections; what counts is what it leaves to the sale.
  compare() {
    run "$sell" "$1" >>"$work/nothing"
    wrk -t1 -c"$flood" -d"$((each + 1))s" -s "$work/made-up.lua" "$sell/v1/reservations" >"$work/flood.out" &
    local beside=$!
    run "$sell" "$1" >>"$work/sell"
    wait "$beside"
    awk '/requests in/ {print $1}' "$work/flood.out" >>"$work/made-up"
  }
else
  compare() {
    run "$nothing" "$1" >>"$work/nothing"
    run "$sell" "$1" >>"$work/sell"
  }
fi
case $mode in flood) other="without the flood" what="with the flood" ;; refuse*) other="do nothing" what=$mode ;; *) other="do nothing" what=reservations ;; esac

# What the answers are is asked of the router afterwards: wrk only knows "not 2xx".
outcomes() {
  curl -s "$ops/metrics" | sed -n 's/^stockade_router_requests_total{operation="reserve",outcome="\([^"]*\)"} \(.*\)/\1 \2/p' | tr '\n' ' '
}

run "$sell" 64 >/dev/null # warm up
before=$(memory)
for c in $connections; do
  : >"$work/sell" && : >"$work/nothing"
  for _ in $(seq "$rounds"); do
    compare "$c"
  done
  read -r nm nl nh n50 n99 _ < <(stats "$work/nothing")
  read -r sm sl sh s50 s99 bad < <(stats "$work/sell")
  echo "$c connections: $what $sm/s ($sl..$sh), p50 $s50, p99 $s99, not 2xx: $bad"
  echo "$c connections: $other $nm/s ($nl..$nh), p50 $n50, p99 $n99"
  awk -v a="$sm" -v b="$nm" -v c="$c" 'BEGIN {printf "%d connections: ratio %.2f\n", c, a / b}'
done
if [ "$mode" = flood ]; then
  echo "$(awk '{n += $1} END {print n}' "$work/made-up") requests for SKUs that do not exist; memory $before MiB before, $(memory) MiB after"
fi
echo "outcomes: $(outcomes)"
