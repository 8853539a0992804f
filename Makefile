# busylamp. `make help` lists the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: help build test lint demo deps fuzz clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

build: ## bin/busylamp, static
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/busylamp ./cmd/busylamp

test: deps build ## everything: unit, real Kamailio, real calls (never skips)
	go vet ./...
	CGO_ENABLED=1 BUSYLAMP_E2E=1 go test -race -timeout 20m $$(go list ./... | grep -v /integration)
	BUSYLAMP_E2E=1 go test -count=1 -p 1 -v -timeout 30m ./integration/...

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
