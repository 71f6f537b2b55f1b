# callbench: `make bench` and `make test` set everything up by themselves.
#   make bench [K=generalization] [SCALE=default] [MLX=cpu|cuda13] [ARGS=...]
PYTHON ?= python3
MLX ?= cpu
K ?= generalization
SCALE ?= default
ARGS ?=
ARM ?= sft
PORT ?= 8080
VENV ?= .venv
BIN := $(VENV)/bin
LOCK := $(if $(filter cuda13,$(MLX)),requirements-cuda13.lock,requirements.lock)
STAMP := $(VENV)/.installed-$(MLX)

# make peers [ARGS='--only torch --rounds 1']
.PHONY: bench test unit replay smoke study study-status scheduler worker export serve report claims peers faults check format lock setup clean

bench: setup
	$(BIN)/python -m pytest bench -k "$(K)" --scale $(SCALE) $(ARGS)

test: check unit replay smoke

# In two processes, except for clusters: their numerics are compared with those of a process that has all cores.
unit: setup
	$(BIN)/python -m pytest bench/unit --ignore bench/unit/cluster -n 2 --dist loadscope $(ARGS)
	$(BIN)/python -m pytest bench/unit/cluster $(ARGS)

replay: setup
	$(BIN)/python -m pytest bench --replay --seed 0,1 $(ARGS)
	$(BIN)/python -m pytest bench --replay --scale full --model smollm2_135m --seed 0,1,2,3 $(ARGS)
	$(BIN)/python -m pytest bench --replay --scale study --fold 0,1,2,3,4 $(ARGS)
	$(BIN)/python -m pytest bench --replay --scale smoke $(ARGS)

# Not every arm, and not on every split: each takes minutes, and shows nothing new at this scale. The unit tests train
# with every method, on a tiny model.
LEFT_OUT := throughput or diversity or rl or grpo or second_epoch or (scaffolds and unseen)
smoke: setup
	$(BIN)/python -m pytest bench --scale smoke -k "not ($(LEFT_OUT))" $(ARGS)

# The registered study over folds: what is not recorded yet, until it is stopped; it continues there.
study: setup
	$(BIN)/python -m fixtures.study $(ARGS)

study-status: setup
	$(BIN)/python -m fixtures.study --status $(ARGS)

# make export ARM=sft: exports/sft-all_patterns-s0/mlx_lm and …/peft
export: setup
	$(BIN)/python -m pytest bench -k "test_export and $(ARM)" --export exports --scale $(SCALE) $(ARGS)

# A worker of a Dask cluster, for --cluster: make worker SCHEDULER=tcp://HOST:8786; the scheduler: make scheduler
scheduler: setup
	DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=2 $(BIN)/python -m dask scheduler $(ARGS)

worker: setup
	$(BIN)/python -m fixtures.cluster.start $(SCHEDULER) $(ARGS)

# An OpenAI-compatible server on loopback: make serve ARM=sft [PORT=8080]
serve: setup
	$(BIN)/python -m fixtures.runs.serve --arm $(if $(filter base,$(ARM)),base,$(ARM)-all_patterns-s0) --scale $(SCALE) --port $(PORT) $(ARGS)

# One page with every recorded answer, tables and plots: report/index.html.
report: setup
	$(BIN)/python -m fixtures.report --scale $(SCALE) $(ARGS)

# The pictures in the READMEs.
claims: setup
	$(BIN)/python -m fixtures.report --scale full --model smollm2_135m --to report/first_study
	@cp report/first_study/claims.svg results/claims.svg
	$(BIN)/python -m fixtures.report --scale study --to report/study
	@cp report/study/claims.svg results/claims_over_folds.svg

# Not part of CI: installs torch and compiles llama.cpp and its server into the cache, then runs for about half an hour.
peers: setup
	$(BIN)/python -m bench.peers.compare $(ARGS)
	$(BIN)/python -m bench.peers.served

# Not part of CI: 100 faults of each kind in whole runs, half a minute each on one core. ARGS='--times 12 --jobs 2 --kinds kill'
faults: setup
	$(BIN)/python -m bench.faults.run $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(STAMP)

$(STAMP): $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || \
		{ echo "callbench needs Python 3.11.4 or newer, found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(if $(wildcard $(VENV)/.installed-*),--clear) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement $(LOCK)
	@rm -f $(VENV)/.installed-*
	@touch $@

# Needs uv. A lock carries hashes and no index URL, so that any mirror serves it.
lock:
	uv pip compile pyproject.toml --group dev --extra cpu --extra cluster --universal --generate-hashes --no-emit-index-url --python-version 3.11.4 --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --group dev --extra cuda13 --extra cluster --universal --generate-hashes --no-emit-index-url --python-version 3.11.4 --quiet --output-file requirements-cuda13.lock

# Keeps the cache of fetched assets, adapters and completions ($$CALLBENCH_CACHE).
clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks report
