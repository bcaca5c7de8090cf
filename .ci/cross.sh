#!/usr/bin/env bash
# Builds every package for the machines that gateways are, and the program for
# each into dist/gatehouse-linux-ARCH. The same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${GO:=go}" "${VERSION:=dev}"

export CGO_ENABLED=0 GOOS=linux GOARM=6
mkdir -p dist
for GOARCH in amd64 arm64 arm; do
	export GOARCH
	"$GO" build -trimpath -buildvcs=false ./...
	"$GO" build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" \
		-o "dist/gatehouse-linux-$GOARCH" ./cmd/gatehouse
	echo "cross: dist/gatehouse-linux-$GOARCH, $(stat -c %s "dist/gatehouse-linux-$GOARCH") bytes"
done
