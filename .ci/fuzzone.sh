#!/usr/bin/env bash
# Runs one target of one fuzz binary and prints one line, or everything if it
# fails. For fuzz.sh.
set -euo pipefail
binary=$1 folder=$2 package=$3 target=$4

fuzz() {
	(cd "$folder" && "$binary" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$FUZZEACH" \
		-test.fuzzcachedir="$FUZZCACHE/$package" -test.parallel=1 2>&1)
}

name=${package#github.com/gatehouse/gatehouse/}.$target
# The go command's fuzzer at times takes its own deadline for a failure of the
# target; a true one leaves its input behind. Such a run is repeated, once.
output=$(fuzz) || {
	if [[ $output == *"context deadline exceeded"* && $output != *"Failing input written"* ]] && output=$(fuzz); then
		:
	else
		printf '%s\nFAIL\t%s\n' "$output" "$name"
		exit 1
	fi
}
printf 'ok\t%s\t%s\n' "$name" "$(grep -oE 'execs: [0-9]+' <<<"$output" | tail -n 1)"
