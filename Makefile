# Gatehouse. `make help` lists what there is to do.

.DEFAULT_GOAL := help
SHELL := /bin/bash

GO      ?= go
VERSION ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo dev)

# How long all fuzz targets run together.
FUZZTIME ?= 120s
# A snapshot of the vulnerability database, for machines without network.
VULNDB   ?= $(wildcard ../shared/vulndb.tar.gz)
# The time that packages carry: that of the last commit.
SOURCE_DATE_EPOCH ?= $(shell git -c safe.directory='*' log -1 --format=%ct 2>/dev/null || echo 0)

export GO VERSION FUZZTIME VULNDB SOURCE_DATE_EPOCH

BUILDFLAGS := -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"

.PHONY: help build run test deps lint vulncheck fuzz soak crash cross deb bench storm generate clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## Build bin/gatehouse for this machine
	CGO_ENABLED=0 $(GO) build $(BUILDFLAGS) -o bin/gatehouse ./cmd/gatehouse
	@cp bin/gatehouse bin/gatehouse.new && mv bin/gatehouse.new bin/gatehouse # as an installation writes it: docs/decisions/0027-a-start.md

run: build ## Build and run the demo house
	@cat cmd/gatehouse/demo/welcome.txt
	bin/gatehouse run --config cmd/gatehouse/demo/gatehouse.yaml --data .demo

test: ## Run every check that a change must pass
	@.ci/test.sh

deps: ## Install the Debian packages that the tests need
	@.ci/deps.sh

lint: ## Run golangci-lint over every module
	@.ci/lint.sh

vulncheck: ## Look for known vulnerabilities that the code reaches
	@.ci/vulncheck.sh

fuzz: ## Run all fuzz targets, FUZZTIME together (120s)
	@.ci/fuzz.sh

soak: ## Run the tests that are worth more the longer they run (half an hour)
	@.ci/deps.sh
	SOAK=1 $(GO) test -race -count=1 -v -timeout 90m -run '^Test(SameAsMosquitto|SessionsAgainstAModel|TakeoverRounds)$$' ./broker
	$(GO) test -race -count=20 -timeout 60m -run '^Test(Storm|StalledClientGoesOn|MessagesOutlive.*|SlowClose.*)$$' ./broker
	SOAK=1 $(GO) test -race -count=1 -v -timeout 30m -run '^TestReplugCycles' ./drivers/serial ./cmd/internal/gateway
	SOAK=1 $(GO) test -count=1 -v -timeout 30m -parallel 16 -run '^TestFaults?Of' ./drivers/modbus
	KILLS=1000 POWER_CUTS=200 $(GO) test -count=1 -v -timeout 60m -run '^Test(Kills|PowerCuts)$$' ./cmd/gatehouse

crash: ## Cut the power at every operation of the disk, and have every one fail
	CRASH=1 $(GO) test -count=1 -v -timeout 90m ./broker/brokertest/crash

cross: ## Build for linux amd64, arm64 and arm (GOARM=6) into dist/
	@.ci/cross.sh

deb: cross ## Build dist/*.deb for amd64, arm64 and armhf
	$(GO) run -C firmware/deb . -version "$(VERSION)" -binaries $(CURDIR)/dist -out $(CURDIR)/dist

bench: build bin/node-red ## Compare with mosquitto, mochi and Node-RED (BENCHFLAGS=... go to the load generator)
	@.ci/deps.sh mosquitto
	$(GO) build -o bin/bench ./cmd/bench
	$(GO) build -C cmd/bench/mochi -trimpath -buildvcs=false -o ../../../bin/bench-mochi .
	bin/bench $(BENCHFLAGS)

# Node-RED 5 wants Node 22, which the npm package "node" carries.
bin/node-red:
	@if command -v npm >/dev/null; then \
		rm -rf bin/node-red.part && mkdir -p bin/node-red.part && \
		npm install --prefix bin/node-red.part --no-audit --no-fund --no-progress --loglevel=error node@22 node-red@5 && \
		mv bin/node-red.part bin/node-red || echo "Node-RED cannot be installed: the rows with rules go without it"; \
	else echo "npm is not there: the rows with rules go without Node-RED"; fi

storm: build ## Measure what 10,000 silent connections cost (STORMFLAGS=... go to cmd/storm)
	$(GO) build -o bin/storm ./cmd/storm
	bin/storm $(STORMFLAGS)

generate: ## Generate what is generated
	$(GO) generate ./...

clean: ## Remove what was built
	rm -rf bin dist .demo
