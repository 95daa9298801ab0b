#!/usr/bin/env bash
# Plants one bug after the other in a copy of HEAD and runs the test that must
# catch it. Arguments: the patches to try; all without. Fails when a bug survives,
# when it does not apply or build, and when its test fails without it too.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GO=${GO:-go}
root=$(git -C "$here" rev-parse --show-toplevel)
copy=$(mktemp -d)
log=$copy.log
trap 'git -C "$root" worktree remove --force "$copy"; rm -f "$log"' EXIT
git -C "$root" worktree add --quiet --detach "$copy" HEAD
cd "$copy"
[ $# -gt 0 ] || set -- "$here"/*.patch

# field NAME PATCH: what the patch's head says.
field() { sed -n "s/^# $1: //p" "$2"; }

# try PATCH: runs its test on the tree as it is.
try() {
	local package pattern
	read -r package pattern <<<"$(field test "$1")"
	# The simulator's seeds are random, and some bugs need hundreds of them; so are moments.
	STOCKADE_SIM_SEEDS=3000 POWERLOSS_MOMENTS=200 timeout 300 "$GO" test -count=1 -timeout 240s -run "$pattern" "$package" >"$log" 2>&1
}

bad=0
for patch in "$@"; do
	patch=$(cd "$root" && realpath "$patch")
	name=$(basename "$patch" .patch)
	verdict=caught
	git apply "$patch"
	package=$(field test "$patch" | cut -d' ' -f1)
	began=$SECONDS
	if ! "$GO" vet "$package" >"$log" 2>&1; then
		verdict="DOES NOT BUILD"
	elif try "$patch"; then
		verdict=SURVIVED
	fi
	took=$((SECONDS - began))
	git checkout --quiet .
	# A test that fails anyway catches nothing.
	if [ "$verdict" = caught ] && ! try "$patch"; then
		verdict="FAILS WITHOUT IT"
	fi
	printf '%-34s %-17s %4d s  %s\n' "$name" "$verdict" "$took" "$(field test "$patch")"
	if [ "$verdict" != caught ]; then
		bad=1
		tail -n 5 "$log" | sed 's/^/    /'
		echo "    again: bench/mutants/run.sh bench/mutants/$name.patch"
	fi
done
exit $bad
