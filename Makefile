# The two that matter: `make demo` runs the default experiment, `make test` runs the tests.
# PYTHON and TORCH may be given: `make install PYTHON=python3.12 TORCH="torch torchvision"`.
PYTHON ?= python3
# The pair the numbers in docs/ were measured with; torch and torchvision releases belong together.
TORCH ?= torch==2.13.0 torchvision==0.28.0
BIN := .venv/bin
# Matrix products of test size are slower with threads than without.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# Each process takes whole files, which share what they set up, and in the end some of the other's.
TEST_SHARES := -n 2 --dist worksteal

BENCH := steps budget layers breakdown build fixed tasks memory startup
BENCH_OUT := runs/bench
GPU_OUT := runs/gpu.json
# CIFAR-100 as an image folder, zip or several zips, for `make gpu`.
DATA :=

.PHONY: install demo test test-slow test-cluster test-faults test-corruption test-processes test-long test-packages test-environment test-hostile test-browser format lint types check bench gpu clean

install: .venv/.installed

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH) --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/ness run --preset digits --threads 1 --out runs/demo/ness >/dev/null
	$(BIN)/ness run --preset digits --threads 1 --out runs/demo/finetune method.name=finetune >/dev/null
	$(BIN)/ness report runs/demo/ness runs/demo/finetune

test: install
	$(TEST_ENV) $(BIN)/python -m pytest $(TEST_SHARES) -m "not slow"

test-slow: install
	$(TEST_ENV) $(BIN)/python -m pytest $(TEST_SHARES)

# As root, with the packages slurm-wlm and munge; CLUSTER_PYTHON may be another one that has ray.
CLUSTER_PYTHON ?= $(BIN)/python
test-cluster: install
	$(CLUSTER_PYTHON) -c "import ray" || $(CLUSTER_PYTHON) -m pip install --quiet "ray>=2.30"
	scripts/slurm-here up
	NESS_TEST_CLUSTER=1 SLURM_CONF=/tmp/slurm-here/slurm.conf $(TEST_ENV) \
	  $(CLUSTER_PYTHON) -m pytest -m cluster tests/cluster; \
	  status=$$?; scripts/slurm-here down; exit $$status

# Hours: every kind of fault at every call of every command; MOST=10 tries ten of each.
MOST := 0
test-faults: install
	cd tests && $(TEST_ENV) PYTHONPATH=$(CURDIR) ../$(BIN)/python -m faults --most $(MOST)

# Every file of runs damaged in every way, an hour or two; MOST=20 tries twenty for every kind of run.
test-corruption: install
	cd tests && $(TEST_ENV) PYTHONPATH=$(CURDIR) ../$(BIN)/python -m faults.corruption --most $(MOST)

# Hundreds of processes killed, many at once, and, as root, full disks: half an hour.
test-processes: install
	cd tests && $(TEST_ENV) PYTHONPATH=$(CURDIR) ../$(BIN)/python -m faults.processes

# Hours: tasks learned in processes of their own, some of them killed; the same bits in the end.
TASKS := 200
test-long: install
	cd tests && $(TEST_ENV) PYTHONPATH=$(CURDIR) ../$(BIN)/python -m faults.long_chain --tasks $(TASKS)

# The wheel and the sdist, each in an environment of its own; DEPS=.venv lends packages.
test-packages:
	DEPS=$(if $(DEPS),$(abspath $(DEPS))) scripts/try-packages $(PYTHON)

# Some tests of every part with another Python; VERSIONS=oldest takes the lowest that are allowed.
VERSIONS := newest
test-environment:
	scripts/try-environment $(PYTHON) $(VERSIONS)

# Thousands of settings and files made to harm; the default suite tries some of each.
test-hostile: install
	$(TEST_ENV) $(BIN)/python -m pytest -s tests/hostile

# Names made to harm, in pages and pictures, opened by Chromium: apt-get install chromium.
test-browser: install
	NESS_TEST_BROWSER=1 $(TEST_ENV) $(BIN)/python -m pytest -s -m browser tests/browser

format: install
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

check: lint types test

bench: install
	@for part in $(BENCH); do \
	  echo; echo "== $$part"; $(BIN)/python benchmarks/$$part.py --out $(BENCH_OUT)/$$part.json || exit; \
	done

gpu: install
	$(BIN)/python benchmarks/gpu.py --out $(GPU_OUT) $(if $(DATA),--data $(DATA))

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis runs/demo runs/smoke*
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
