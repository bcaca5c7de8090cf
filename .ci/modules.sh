#!/usr/bin/env bash
# Prints the folders of all modules of this repository, the root as ".".
set -euo pipefail
cd "$(dirname "$0")/.."
git -c safe.directory='*' ls-files --cached --others --exclude-standard -- go.mod '*/go.mod' |
	xargs -r -n 1 dirname | sort -u
