# busylamp. `make help` lists the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# What tests of faults record (integration/record); make test checks that it is all there.
RECORD := $(CURDIR)/.record

.PHONY: help build proto test soak reliability bench lint demo deps fuzz clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

build: ## bin/busylamp and the plugins bin/busylamp-source-*, static
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/...
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/busylamp-source-template ./plugin/template

proto: ## make plugin/proto/v1 anew of its source.proto (needs protoc: Debian's protobuf-compiler)
	./plugin/proto/v1/generate.sh

test: deps build ## everything: unit, real Kamailio, real calls (never skips)
	go vet ./...
	@rm -rf $(RECORD)/test.jsonl && mkdir -p $(RECORD)
	CGO_ENABLED=1 BUSYLAMP_E2E=1 BUSYLAMP_RECORD=$(RECORD)/test.jsonl go test -count=1 -race -timeout 20m $$(go list ./... | grep -v /integration)
	go test -count=1 -run '^Test.*(Alloc|Budget)' . ./adapters/... # the race detector allocates itself
	BUSYLAMP_E2E=1 BUSYLAMP_RECORD=$(RECORD)/test.jsonl go test -count=1 -p 1 -parallel 3 -v -timeout 40m ./integration/...
	@mv $(RECORD)/test.jsonl $(RECORD)/passed.jsonl
	go run ./integration/reliability check $(RECORD)/passed.jsonl

soak: deps build ## the long variants of the tests of faults: two hours
	@rm -rf $(RECORD)/soak.jsonl && mkdir -p $(RECORD)
	BUSYLAMP_SOAK=1 BUSYLAMP_RECORD=$(RECORD)/soak.jsonl go test -count=1 -v -run '^TestWorld$$' -rapid.checks=100000 -timeout 2h .
	BUSYLAMP_SOAK=1 BUSYLAMP_RECORD=$(RECORD)/soak.jsonl go test -count=1 -v -run '^TestFlippedEverywhere$$' -timeout 2h ./adapters/store
	BUSYLAMP_SOAK=1 BUSYLAMP_E2E=1 BUSYLAMP_RECORD=$(RECORD)/soak.jsonl go test -count=1 -v -timeout 4h \
	  -run '^(TestSidecarKilled|TestSoak|TestServerFaults)$$/^server-down$$' ./integration
	@mv $(RECORD)/soak.jsonl $(RECORD)/soaked.jsonl

reliability: ## write integration/RELIABILITY.md of what the last make test and make soak have recorded
	go run ./integration/reliability update $(wildcard $(RECORD)/passed.jsonl $(RECORD)/soaked.jsonl)

bench: deps build ## measure busylamp beside the bare proxy and pua_dialoginfo; writes integration/bench/RESULTS.md (20 minutes)
	go run ./integration/bench $(BENCH)

lint: ## golangci-lint, with the rule on imports
	test -z "$$(gofmt -l .)"
	go run $(LINT) run ./...

demo: deps build ## a real proxy, three phones, a watcher: see a call become presence (KEEP=1 leaves it running)
	@go run ./integration/demo $(if $(KEEP),--keep)

deps: ## install Kamailio and sipp from Debian, for test and demo
	@./integration/deps.sh

fuzz: ## every fuzz target for FUZZTIME (20s)
	@for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
	  for t in $$(grep -oE '^func Fuzz[A-Za-z0-9_]*' $$f | cut -c6-); do \
	    echo "== $$t ($$f)"; go test -run '^$$' -fuzz "^$$t$$" -fuzztime $(or $(FUZZTIME),20s) ./$$(dirname $$f) || exit 1; \
	  done; done

clean: ## remove what build made
	rm -rf bin
