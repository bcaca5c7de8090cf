#!/usr/bin/env bash
# Builds the tools of .ci/tools/go.mod into bin/tools. With the same Go and the
# same versions as last time it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${GO:=go}"

stamp=$({ "$GO" version; cat .ci/tools/go.mod .ci/tools/go.sum; } | sha256sum)
if [ "$(cat bin/tools/.stamp 2>/dev/null)" = "$stamp" ]; then
	exit 0
fi
mkdir -p bin/tools
"$GO" build -C .ci/tools -trimpath -buildvcs=false -ldflags "-s -w" -o ../../bin/tools/ tool
echo "$stamp" >bin/tools/.stamp
