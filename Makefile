# loragrid: two commands do everything on a fresh machine, `make quickstart` and `make test`.

SHELL := /bin/bash
# bash counts its own SECONDS; only the command line sets this one.
unexport SECONDS
PYTHON ?= python3
# One set of features and one profile for programs, tests and quickstart, so that nothing is built twice.
CARGO_FLAGS := --release --features engine,fake-engine
MODEL := .deps/models/SmolLM2-135M-Instruct.Q4_1.gguf

# Real data and reference values, for the tests that use them; a test without them says that it was skipped.
LORAGRID_DATA ?= $(wildcard ../shared/data)
LORAGRID_REFERENCE ?= $(wildcard ../shared/reference)
export LORAGRID_DATA := $(abspath $(LORAGRID_DATA))
export LORAGRID_REFERENCE := $(abspath $(LORAGRID_REFERENCE))
export LORAGRID_TEST_MODEL := $(abspath $(MODEL))

.PHONY: help setup build quickstart test test-parity fuzz lint fmt clean bench-plan bench-start

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: ## bring libtorch and the quickstart's model into .deps
	@$(PYTHON) setup/fetch.py libtorch
	@$(PYTHON) setup/fetch.py model

build: setup ## build loragrid and loragrid-engine into target/release
	cargo build $(CARGO_FLAGS) --bins

quickstart: build ## run a real sweep on a real model, ending with its leaderboard
	@target/release/loragrid run sweeps/quickstart.toml $(ARGS)

test: setup ## every test that needs no GPU
	cargo test $(CARGO_FLAGS)

test-parity: setup ## what transformers, PEFT, bitsandbytes and lm_eval answer, and what the engine answers
	@test -d "$(LORAGRID_REFERENCE)" || { echo "test-parity: LORAGRID_REFERENCE names no folder"; exit 1; }
	LORAGRID_PARITY=1 cargo test $(CARGO_FLAGS) --bin loragrid-engine parity -- --nocapture

fuzz: setup ## damage sweep files, GGUF and safetensors headers at random for SECONDS=60 each
	LORAGRID_FUZZ_SECONDS=$(or $(SECONDS),60) cargo test $(CARGO_FLAGS) --test tests fuzz -- --nocapture

lint: setup ## formatting, clippy, documentation; warnings are errors
	cargo fmt --all -- --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --document-private-items --lib

fmt: ## format the code
	cargo fmt --all

bench-plan: build ## time of a plan of 100,000 cells
	@benches/plan.sh

bench-start: build ## time of `loragrid --help` and of a plan
	@benches/start.sh

clean: ## remove what was built, not what was downloaded
	cargo clean
