# One verb for each thing a person does. Everything lives in .venv; HOME is not touched.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export UV_CACHE_DIR := $(CURDIR)/.venv/.cache
export UV_LINK_MODE := hardlink
# Bytecode is cached, so that programs start at once, and not strewn over the checkout.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/.pycache
unexport PYTHONDONTWRITEBYTECODE
UV := $(BIN)/uv
EDITABLE := -e protos -e clients/python -e .
SOURCES := registry server control_plane training clients deploy/grafana tests protos/generate.py

.DEFAULT_GOAL := help
.PHONY: help demo test bench lint format protos dashboards lock clean

help: ## what each verb does
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo ## train, promote, serve and swap on real data (KEEP=1 leaves it running)
	@$(BIN)/python -m clients.demo $(if $(KEEP),--keep)

test: .venv/.dev .venv/peers/.installed .venv/debian/.fetched ## every test but the load tests
	@$(BIN)/pytest

bench: .venv/.dev .venv/peers/.installed .venv/mlserver/.installed .venv/debian/.fetched ## figures of registry and daemon on this machine, each with its bar
	@$(BIN)/python -m tests.load

lint: .venv/.dev ## ruff, mypy strict, import contracts, generated code up to date
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m deploy.grafana.generate --check

format: .venv/.dev ## ruff format and safe fixes
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

protos: .venv/.dev ## regenerate protos/src from the .proto files
	$(BIN)/python protos/generate.py

dashboards: .venv/.dev ## write deploy/grafana/dashboards from deploy/grafana/*.py
	$(BIN)/python -m deploy.grafana.generate

lock: $(UV) ## resolve requirements/*.txt anew, with hashes
	@PATH="$(BIN):$$PATH" sh requirements/lock.sh

clean: ## remove what make made
	rm -rf .venv .tidegate

$(UV): requirements/uv.txt
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || { echo "no venv module: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tidegate needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/uv.txt
	@touch $@

.venv/.demo: $(UV) requirements/demo.txt pyproject.toml protos/pyproject.toml clients/python/pyproject.toml
	@echo "installing what the demo needs into .venv ..."
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/demo.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(EDITABLE)
	@touch $@

.venv/.dev: $(UV) requirements/dev.txt pyproject.toml protos/pyproject.toml clients/python/pyproject.toml
	@echo "installing what tests and lint need into .venv ..."
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(EDITABLE)
	@touch $@ .venv/.demo

.venv/debian/.fetched: $(UV) tests/debian-packages.sh
	@sh tests/debian-packages.sh

# The KServe SDK pins older pandas and psutil than ours: it gets an environment of its own.
.venv/peers/.installed: $(UV) requirements/peers.txt
	@$(UV) venv --quiet --clear --python $(BIN)/python .venv/peers
	@$(UV) pip install --quiet --python .venv/peers/bin/python --require-hashes -r requirements/peers.txt
	@touch $@

# MLServer is another server to measure beside ours, and wants an older FastAPI than KServe.
.venv/mlserver/.installed: $(UV) requirements/mlserver.txt
	@$(UV) venv --quiet --clear --python $(BIN)/python .venv/mlserver
	@$(UV) pip install --quiet --python .venv/mlserver/bin/python --require-hashes -r requirements/mlserver.txt
	@touch $@
