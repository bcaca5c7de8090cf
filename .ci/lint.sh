#!/usr/bin/env bash
# Runs golangci-lint, gofumpt among its formatters, over every module.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
.ci/tools.sh
# The flags of `make build`, so that both share what is compiled.
export GOFLAGS="${GOFLAGS:-} -trimpath" CGO_ENABLED=0

modules=$(.ci/modules.sh) # on a line of its own: a failure ends the script
status=0
for module in $modules; do
	(cd "$module" && "$root/bin/tools/golangci-lint" run --allow-parallel-runners --config "$root/.golangci.yml" ./...) || status=1
done
exit $status
