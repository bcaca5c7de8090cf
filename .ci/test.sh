#!/usr/bin/env bash
# Everything that a change must pass, step by step; `make test` and .ci/run are
# this. A step that fails does not keep the others from running, so that one
# run tells all there is to mend. The last line is the sum of all tests and
# steps: "N passed, 0 failed".
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
: "${GO:=go}"

scratch=$(mktemp -d)
aside= # the process group of what runs beside the tests
trap '[ -z "$aside" ] || kill -- "-$aside" 2>/dev/null; rm -rf "$scratch"' EXIT
totals=$scratch/totals   # of tests: a line "passed failed skipped" a run
summary=$scratch/summary # a line a step
failures=$scratch/failures
touch "$totals" "$summary" "$failures"

# step NAME COMMAND... runs the command between a header and its time.
step() {
	local name=$1 begin=$SECONDS verdict=ok
	shift
	printf '\n== %s: %s\n' "$name" "$*"
	if ! "$@" </dev/null; then
		verdict=FAILED
		echo "$name" >>"$failures"
	fi
	printf '   %-10s %-6s %4d s\n' "$name" "$verdict" $((SECONDS - begin)) >>"$summary"
	echo "== $name $verdict after $((SECONDS - begin)) s"
	[ $verdict = ok ]
}

# gotest FOLDER ARGUMENTS... runs go test there and adds to the totals.
gotest() {
	local folder=$1
	shift
	(cd "$folder" && "$GO" test -json "$@") | bin/tools/testreport -totals "$totals"
}

# Tests of whole programs wait more than they work, so more packages than cores
# run at once. Nothing comes from the cache, which does not know what files the
# laws of the source tree look at.
race() {
	gotest . -race -count=1 -shuffle=on -p 4 -timeout 14m ./...
}

# The packages again as on a 32-bit machine, where the race detector cannot
# run; whole programs were tested above. A kernel that does not run programs of
# 386 is given those of a Raspberry Pi 1 under an emulator, in short, but for packages that
# start programs of their own or keep deadlines: the emulator is twenty times slower.
bits32() {
	local packages arch=386 exec=() short=() whole='/cmd/(gatehouse|bench)$'
	if ! CGO_ENABLED=0 GOARCH=386 "$GO" test -count=1 -run '^$' ./broker/topic >/dev/null 2>&1; then
		.ci/deps.sh qemu-user || return
		arch=arm exec=(-exec qemu-arm) short=(-short) whole+='|/(broker/listen|broker/brokertest/crash|plugins|rules/jsvm)$'
		echo "386 does not run here: GOARCH=arm under qemu-arm, without broker/listen, broker/brokertest/crash, plugins and rules/jsvm"
	fi
	packages=$("$GO" list ./... | grep -vE "$whole")
	# shellcheck disable=SC2086 # one word a package
	CGO_ENABLED=0 GOARCH=$arch GOARM=6 gotest . "${exec[@]}" "${short[@]}" -vet=off -shuffle=on -p 4 -timeout 8m $packages
}

# Every module of its own: the tools, the packages for Debian.
modules() {
	local module modules status=0
	modules=$(.ci/modules.sh) || return
	for module in $modules; do
		[ "$module" = . ] || gotest "$module" -shuffle=on -timeout 8m ./... || status=1
	done
	return $status
}

report() {
	printf '\n== summary: %s, %s, %d cores, %d s\n' "$("$GO" env GOVERSION)" "$(uname -m)" "$(nproc)" "$SECONDS"
	cat "$summary"
	awk -v steps="$(wc -l <"$failures")" '{ passed += $1; failed += $2; skipped += $3 }
		END {
			if (failed == 0) failed = steps # a step without tests, such as lint
			if (passed + failed == 0) failed = 1
			printf "%d passed, %d failed", passed, failed
			if (skipped) printf ", %d skipped", skipped
			print ""
		}' "$totals"
	[ ! -s "$failures" ]
}

# What runs no tests goes beside them and yields to them: tests of whole programs
# wait a good part of their time, and a core would be idle meanwhile. Building the
# tools takes a cold machine minutes, so that what needs none does not wait for them.
# A step that runs in vain says why itself.
aside() {
	{
		step tools .ci/tools.sh
		step lint .ci/lint.sh
		step vulncheck .ci/vulncheck.sh
	} >"$scratch/tools" 2>&1 &
	{
		step cross .ci/cross.sh
		step fuzz .ci/fuzz.sh
	} >"$scratch/cross" 2>&1
	wait
}

# A test that needs a foreign program may skip itself, but not where deps.sh has been.
step deps .ci/deps.sh && export DEPS=installed
step testreport "$GO" build -C .ci/tools -trimpath -buildvcs=false -o ../../bin/tools/ ./testreport || { report; exit 1; }
step build make --no-print-directory -s build
set -m # in a process group of its own, which ends with this script
(
	renice -n 10 "$BASHPID" >/dev/null
	aside
) &
aside=$!
set +m
step modules modules
step 32-bit bits32
step race race
wait
aside=
cat "$scratch/cross" "$scratch/tools"
report
