# `make` lists what there is. README.md says when to use which.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

# Built programs are kept outside the checkout, so that a clean checkout starts warm.
export GILL_HICKS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gill-hicks
export CARGO_TARGET_DIR ?= $(GILL_HICKS_CACHE)/target

# local: the cluster that e2e/cluster brings up. current: the cluster of your kubeconfig.
export CLUSTER ?= local
# Images are tagged BRANCH-SHA.
branch := $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null | tr -c 'A-Za-z0-9_.\n' '-')
export TAG ?= $(branch)-$(shell git rev-parse --short=12 HEAD 2>/dev/null || echo none)
ifeq ($(CLUSTER),local)
export IMAGE_PREFIX ?= localhost/gill-hicks
else
export IMAGE_PREFIX ?= gill-hicks
endif
# The namespace that `make up` and `make deploy` give to the operator.
export NAMESPACE ?= gill-hicks

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: ## Install what is missing, build, bring up a cluster and show a portal in it
	@deploy/up

.PHONY: install
install: ## Install the operator for NAMESPACES="TEAM-A TEAM-B", or for NAMESPACES=--all-namespaces
	@deploy/install $(or $(NAMESPACES),$(NAMESPACE))

.PHONY: uninstall
uninstall: ## Take NAMESPACES="TEAM-A TEAM-B" away from the operator again
	@deploy/uninstall $(NAMESPACES)

.PHONY: down
down: ## End everything that `make up` started
	@deploy/down

.PHONY: test
test: ## Prove the product: everything that CI runs
	@.ci/stage --begin
	@trap '.ci/stage --report' EXIT; \
	stage() { .ci/stage "$$@"; }; \
	stage "tools" $(MAKE) tools; \
	stage "format" cargo fmt --all --check; \
	stage "scripts" $(MAKE) check-scripts; \
	stage "dependencies" $(MAKE) check-dependencies; \
	stage "terraform" terraform/check; \
	stage "lint" cargo clippy --release --workspace --all-targets -- -D warnings; \
	stage "lint, without what images do not have" cargo clippy --release --package hardware -- -D warnings; \
	stage "build" cargo build --release --workspace --all-targets; \
	stage "unit and store tests" $(MAKE) unit; \
	stage "accounts and store on MySQL" $(MAKE) e2e-mysql; \
	stage "quick start and end-to-end tests" $(MAKE) e2e; \
	stage "benchmark, shortened" $(MAKE) bench BENCH_SECONDS=1 BENCH_STRICT=true; \
	stage "quick start, removed twice" $(MAKE) down down-again

.PHONY: unit
unit: ## Run the tests that need no cluster (but a MariaDB and an AWS stand-in, which it starts)
	@# All tests but on_cluster. Excluding the package instead would choose other features, and compile
	@# everything again.
	@e2e/with-database e2e/with-aws e2e/with-clients cargo test --release --workspace --lib --bins --examples --test '[!o]*'
	@cargo test --release --workspace --doc

.PHONY: e2e
e2e: ## Run the end-to-end tests on the cluster of `make up`, or those whose name contains TEST
	@e2e/run $(TEST)

.PHONY: e2e-mysql
e2e-mysql: ## Run the tests of accounts and store on MySQL, that of MYSQL_URL=mysql://USER:PASSWORD@HOST if set
	@e2e/with-mysql e2e/with-clients cargo test --release --workspace --test accounts --test suite
	@$(if $(MYSQL_URL),,e2e/with-mysql --strict cargo test --release --workspace --test accounts)

.PHONY: bench
bench: ## Measure, side by side, and print one line per figure (also target/bench.json)
	@e2e/bench

.PHONY: build
build: ## Build the images, tagged BRANCH-SHA
	@deploy/images build

.PHONY: push
push: ## Push the images to IMAGE_PREFIX, or into the local cluster
	@deploy/images push

.PHONY: secret
secret: ## Write .secret: a Secret with the database account of MYSQL_HOST, MYSQL_USER, …
	@deploy/secret

.PHONY: deploy
deploy: build push secret ## Build, push, and deploy the operator and a portal on that database
	@deploy/deploy

.PHONY: tools
tools: ## Install what the tests need and this machine lacks
	@e2e/cluster/cluster install
	@e2e/install-tools

.PHONY: check-scripts
check-scripts:
	@git ls-files ':!*.md' | xargs grep -lE '^#!/usr/bin/env bash' | xargs shellcheck --external-sources

.PHONY: check-dependencies
check-dependencies:
	@$(GILL_HICKS_CACHE)/tools/bin/cargo-deny --all-features check bans licenses sources

.PHONY: down-again
down-again:
	@deploy/down
