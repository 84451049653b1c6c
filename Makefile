# Every target sets up what it needs by itself; the second time it starts in seconds.
# ARGS go to the command: `make figures ARGS="--only decay_and_write"`, `make test ARGS="-m gpu -n 0"`.

.DEFAULT_GOAL := help
.PHONY: help env figures notebooks docs test lint lab bench mutants attack doctor clean

# The first Python that is new enough and can make environments; `make PYTHON=... env` names another.
ABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$name -c '$(ABLE)' 2> /dev/null && echo $$name && break; done)
PY := .venv/bin/python
READY := .venv/.ok
# Two processes; a file stays in one, since its fixtures are shared and a notebook's cells follow each other.
BOTH := -n 2 --dist loadfile --no-loadscope-reorder

help: ## show this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

env: $(READY) ## set up .venv from environment.yml's pip section

figures: $(READY) ## draw every interactive figure and the gallery figures/index.html
	$(PY) -m figures $(ARGS)

notebooks: $(READY) ## execute all notebooks in order and store them clean
	$(PY) .ci/finish_notebooks.py $(ARGS)

docs: $(READY) ## build the documentation, build/docs/html, which opens offline
	$(PY) notebooks/docs/build.py $(ARGS)

test: lint ## lint, unit and parity tests, and all notebooks under nbval
	$(PY) -m pytest $(BOTH) --nbval --nbval-cell-timeout=300 tests notebooks $(ARGS)

lint: $(READY) ## check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

lab: $(READY) ## open JupyterLab on notebooks/
	env -u PLOTLY_RENDERER $(PY) -m jupyterlab notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

bench: $(READY) ## measure speed and memory as ratios
	$(PY) -m tests.benchmarks $(ARGS)

mutants: $(READY) ## plant small bugs, one at a time, and see that the tests find them
	$(PY) -m tests.mutants $(ARGS)

attack: $(READY) ## attack the lab with damaged files, interrupts and threads, and count
	$(PY) -m tests.attacks $(ARGS)

doctor: $(READY) ## check the installed packages for known traps
	$(PY) -m labkit doctor $(ARGS)

clean: ## remove the environment, caches and built pages
	rm -rf .venv .venv-newest .pytest_cache .ruff_cache build *.egg-info figures/*.html figures/*.csv figures/*.nc figures/plotly.min.js figures/.data
	find labkit figures notebooks tests .ci -name __pycache__ -prune -exec rm -rf {} +

# Tiny models: more threads only wait for each other, and one thread repeats its numbers.
figures notebooks test attack: export OMP_NUM_THREADS := 1

$(READY): environment.yml pyproject.toml constraints.txt .ci/install.py
	@test -n "$(PYTHON)" || { echo "labkit needs Python 3.11 or newer with venv and ensurepip (Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) .ci/install.py
	@touch $@
