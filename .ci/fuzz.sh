#!/usr/bin/env bash
# Runs every fuzz target of every module, two at a time with one worker each.
# FUZZTIME is what all targets get together, in seconds; each gets an equal
# part, at least 2 s. A crash fails, and its input stays in testdata/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${GO:=go}" "${FUZZTIME:=120s}"

total=${FUZZTIME%s}
case $total in
'' | *[!0-9]*)
	echo "fuzz: FUZZTIME=\"$FUZZTIME\" is not a number of seconds such as 120s" >&2
	exit 1
	;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$PWD

# One binary for each package that has targets, and a line "binary folder
# package target" for each of them.
for module in $(.ci/modules.sh); do
	cd "$root/$module"
	{ grep -rlE --include='*_test.go' '^func Fuzz\w*\(' . || true; } | xargs -r -n 1 dirname | sort -u |
		while read -r folder; do
			package=$("$GO" list "$folder")
			binary="$scratch/${package//\//_}"
			"$GO" test -c -fuzz=. -o "$binary" "$folder"
			(cd "$folder" && "$binary" -test.list '^Fuzz') | grep '^Fuzz' |
				sed "s|^|$binary $PWD/$folder $package |" >>"$scratch/targets"
		done
	cd "$root"
done

if [ ! -s "$scratch/targets" ]; then
	echo "fuzz: there are no targets" >&2
	exit 1
fi
count=$(wc -l <"$scratch/targets")
each=$((total / count > 2 ? total / count : 2))
echo "fuzz: $count targets, ${each} s each"
cache=$("$GO" env GOCACHE)/fuzz
export FUZZEACH=${each}s FUZZCACHE=$cache
xargs -P 2 -L 1 .ci/fuzzone.sh <"$scratch/targets"
