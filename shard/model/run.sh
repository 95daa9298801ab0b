#!/usr/bin/env bash
# Checks the models in this directory with spin: all states, no hashing away.
# Fails when a property is violated, when one that must be violated is not (the
# rule it was deprived of would then be for nothing), when a search was not
# complete, and when a line of a model was reached by no search.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CC=${CC:-cc}
depth=100000        # steps of a path; reached are less than 2,000
memory=7000         # MiB a search may take
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/*.pml "$work"
cd "$work"

fail() {
	echo "model: $1" >&2
	[ ! -e pan.out ] || tail -n 40 pan.out >&2
	exit 1
}

# search FILE SETTINGS: builds the verifier and runs it; its report is in pan.out.
# A file has one ltl property, or it is checked for assertions and deadlocks only.
# SAFE in front of the settings leaves the property out.
search() {
	local file=$1 settings=$2 build="-DSAFETY -DNOCLAIM" flags=""
	if [[ $settings != *SAFE* ]]; then
		build="-DNFAIR=4" flags="-a -f"  # room for 30 processes; weakly fair
	fi
	rm -f pan*
	# shellcheck disable=SC2086 # settings are words
	spin -a ${settings/SAFE/} "$file" >spin.out 2>&1 || true
	[ -e pan.c ] || { cat spin.out >&2; fail "$file is no model"; }
	"$CC" -O2 -w -DVECTORSZ=2048 -DMEMLIM=$memory $build -o pan pan.c
	# shellcheck disable=SC2086
	nice ./pan -m$depth -w22 $flags >pan.out 2>&1 || true
}

# figures of the last search, for one line of the report
figures() {
	awk '/states, stored/ { s = $1 } /depth reached/ { split($0, a, "depth reached "); d = a[2] + 0 }
	     /total actual memory/ { m = $1 } /elapsed time/ { t = $4 }
	     END { printf "%d states, depth %d, %d MiB, %.0f s", s, d, m, t }' pan.out
}

# holds NAME FILE SETTINGS: nothing is violated, and the search was complete.
holds() {
	search "$2" "$3"
	grep -q 'errors: 0$' pan.out || fail "$1: violated"
	! grep -Eqi 'max search depth too small|out of memory|memory limit|aborted|not completed|hash-?compact|bitstate' pan.out ||
		fail "$1: the search was not complete"
	# Lines of the model in this search, and those that it did not reach. The ends
	# of processes that run for ever are no lines of the model.
	./pan -d | grep -o '[a-z]*\.pml:[0-9]*' | sort -u >lines
	awk '/^unreached in/ { on = ($2 == "in" && ($3 == "proctype" || $3 == "init")) } on && !/-end-/' pan.out |
		grep -o '[a-z]*\.pml:[0-9]*' | sort -u >unreached || true
	cat lines >>all.lines
	comm -23 lines unreached >>all.reached
	printf '  %-62s holds: %s\n' "$1" "$(figures)"
}

# breaks NAME FILE SETTINGS HOW: the model lacks a rule, and that shows in the
# way that is expected.
breaks() {
	search "$2" "$3"
	grep -qF "$4" pan.out || fail "$1: expected \"$4\""
	printf '  %-62s breaks, as it must: %s\n' "$1" "$4"
}

livelock='acceptance cycle'

echo "transfers"
holds  "exactly once, 4 transfers"                transfer.pml "SAFE -DTRANSFERS=4"
holds  "all arrives, 2 transfers"                 transfer.pml "-DTRANSFERS=2"
breaks "a destination that does not know duplicates" transfer.pml "SAFE -DTRANSFERS=2 -DNO_DEDUP" 'assertion violated (sum==unsold)'
breaks "a source that forgets what it has sent"   transfer.pml "SAFE -DTRANSFERS=2 -DFORGET_SENT" 'assertion violated (n<=p[x].received)'

echo "refusals"
holds  "no unit is overlooked, 3 transfers"       refuse.pml "SAFE -DTRANSFERS=3"
breaks "reports that do not fit together"         refuse.pml "SAFE -DTRANSFERS=2 -DNO_RULE" 'assertion violated (sum>=unsold)'
breaks "units that come back (a limit, see README)" refuse.pml "SAFE -DTRANSFERS=2 -DRETURNS" 'assertion violated (sum>=unsold)'

echo "pulls"
holds  "three homes, one request each"            pull.pml "-DHOMES=3"
holds  "two homes, two requests at one"           pull.pml "-DREQUESTS=3 -DONE=2 -DTWO=0"
holds  "two homes, givers add a share, asks are late" pull.pml "-DREQUESTS=2 -DSHARE -DASK_APART -DTWO=0"
holds  "two homes, strangers buy"                 pull.pml "-DREQUESTS=2 -DSTRANGERS -DTWO=0"
holds  "two homes, a fault: lost, late, twice, crash" pull.pml "-DREQUESTS=2 -DCALM -DFAULTS=1 -DLATE=1 -DCRASHES -DTWO=0"
holds  "two homes, at most 5 transfers"           pull.pml "SAFE -DREQUESTS=2 -DCALM -DCOUNT=5"
holds  "two homes, at most 3 if the older needs one unit" pull.pml "SAFE -DREQUESTS=2 -DCALM -DCOUNT=3 -DONE=0"
holds  "two carts"                                pull.pml "-DREQUESTS=2 -DUNITS=1 -DSKUS=2"
breaks "givers that give whatever they have"      pull.pml "-DREQUESTS=2 -DCALM -DNO_WOUND_WAIT" "$livelock"
breaks "carts that are kept one line only"        pull.pml "-DREQUESTS=2 -DCALM -DUNITS=1 -DSKUS=2 -DKEEP_FIRST_SHORT" "$livelock"
breaks "two homes, at most 4 transfers"           pull.pml "SAFE -DREQUESTS=2 -DCALM -DCOUNT=4" 'assertion violated (transfers<=4)'

rm -f pan.out
sort -u all.reached >reached
sort -u all.lines | comm -23 - reached >never
[ ! -s never ] || { cat never >&2; fail "lines that no search reached"; }
