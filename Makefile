# make test checks everything that must hold before a change goes in. It needs Go, and on
# Debian installs the rest by itself. For a single package go test is enough; it skips the
# tests of stores when MariaDB or Redis are not installed. The tests of stores wait for the
# disk; TMPDIR=/dev/shm makes them two to three times as fast.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
GO          ?= go
FUZZTIME    ?= 2s
# What make test fuzzes: a parser of each kind, for frames, message bodies, HTTP headers, the
# settings, pictures, orders of events, and answers of Redis. That shows that fuzzing works.
# With two seconds for each of the 50 targets, fuzzing took more than 100 s of processor time and
# found nothing: go test runs the seeds of all targets anyway. A number of inputs is as much
# work on any machine. make nightly fuzzes all targets for 30 s each.
FUZZED      := ./core/pdu ./proto/pb ./core/web ./core/config ./core/thumb ./handlers/msg/turns \
	./sql/rediswhereabouts ./core/websocket
SEEDS       ?= 200
# What to measure with make bench.
BENCH       ?= .
PKG         ?= ./...
# Compilers and linters run shortly and leave much garbage. Collected less often, compiling
# takes 20 % less processor time and staticcheck 40 %. The second limit keeps memory in
# bounds.
TOOLS       := GOGC=400 GOMEMLIMIT=2GiB
# How vet and staticcheck read packages. For make test these are those that are compiled with
# the race detector, for the tests: compiling all of them without it as well takes longer than
# vet and staticcheck do.
LINTED      :=
STATICCHECK  = echo "staticcheck"; tool=$$($(TOOLS) $(GO) tool -n staticcheck); \
	$(TOOLS) $(LINTED) $$tool ./...

.PHONY: help build release check test nightly deps lint vet generated race fuzz seeds generate page bench \
	clean

help: ## list what make can do
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## the binary, ./teamtalk
	$(GO) build -o teamtalk ./cmd/teamtalk

# The same commit and Go give the same bytes, in any folder. .ci/release says what is made.
release: ## binaries, Debian packages and images in dist/: make release VERSION=v0.1.0
	@$(GO) -C .ci/release run . -version "$(VERSION)"

# The times are for two cores that do nothing else. Staticcheck is last: what it reads is
# compiled by then.
test: LINTED = GOFLAGS="$$(.ci/flags race)"
test: deps vet ## everything CI checks: lint, tests with the race detector, simulation, fuzzing; 12 minutes
	@# The end-to-end tests and the simulation would otherwise compile it at the same time.
	@echo "servers without the race detector"; \
	GOFLAGS="$$(.ci/flags)" $(TOOLS) $(GO) build ./cmd/teamtalk/...
	@.ci/beside '.ci/seeds $(SEEDS); .ci/fuzz 2000x $(FUZZED); $(STATICCHECK)' .ci/test

nightly: race ## for a machine at night: race detector in every process, all rounds, 10000 seeds, 30 s of fuzzing each
	@.ci/seeds 10000
	@.ci/fuzz 30s

check: lint ## the loop while working: lint, tests without database or binary; 1 to 2 minutes
	$(GO) test -vet=off -short $$($(GO) list ./... | grep -v '/sql/')

deps: # MariaDB, Redis, HAProxy, Chromium, Python, openssl and a C compiler, installed on Debian when missing
	@.ci/deps

lint: vet ## generated code fresh, gofmt, go vet, staticcheck
	@$(STATICCHECK)

vet: generated # the parts of lint that take seconds
	@echo "gofmt"; unformatted=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	@echo "go vet"; $(TOOLS) $(LINTED) $(GO) vet ./...

generated: # what is generated from the .proto files is what is checked in
	@echo "generated code"; $(TOOLS) $(LINTED) $(GO) run ./proto/gen -check -in proto -out proto/pb

race: ## all tests, with more rounds, and every process they start, with the race detector
	TEAMTALK_TEST_RACE=1 TEAMTALK_TEST_LONG=1 $(GO) test -race $(PKG)

fuzz: ## every fuzz target for FUZZTIME; to look for new faults: make fuzz FUZZTIME=5m
	@.ci/fuzz $(FUZZTIME)

seeds: ## simulated servers with faults, for SEEDS seeds: make seeds SEEDS=100000
	@.ci/seeds $(SEEDS)

generate: ## write the Go code of the .proto files
	$(GO) generate ./proto/...

page: ## build the chat page, handlers/web/page/dist; needs Node
	cd handlers/web/page && npm ci && npm run build

bench: ## benchmarks: make bench PKG=./core/session BENCH=FanOut
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

clean: ## remove what building and testing left
	rm -f teamtalk cmd/teamtalk/teamtalk
	find . -path ./.git -prune -o -name '*.test' -print -o -name '*.prof' -print | xargs -r rm -f
