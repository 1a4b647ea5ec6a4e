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
# Ends with 3, after a line that says why, where the native transport cannot be built: that is no failure of what does not ask for it.
WITH_CARGO := sh server/native/with-cargo.sh
CARGO_FLAGS := --manifest-path server/native/Cargo.toml
GENERATOR_FLAGS := --manifest-path tests/load/generator/Cargo.toml
SOURCES := registry server control_plane training clients deploy/grafana tests protos/generate.py

.DEFAULT_GOAL := help
.PHONY: help demo demo-drift native native-where-possible test bench lint format generate lock clean

help: ## what each verb does
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Where the native transport was built, it is kept to the sources: the daemon takes it unasked.
BUILT := $(wildcard .venv/.native)

demo: .venv/.demo $(BUILT) ## train, promote, serve and swap on real data (KEEP=1 leaves it running)
	@$(BIN)/python -m clients.demo $(if $(KEEP),--keep)

demo-drift: .venv/.demo $(BUILT) ## serve nine months of real flights to a model of one winter: PSI, KS and AUC by month
	@$(BIN)/python -m clients.demo.drift

native: .venv/.native ## build the native transport, in Rust, and install it into .venv

test: .venv/.dev .venv/peers/.installed .venv/debian/.fetched .venv/grpc-js/.fetched native-where-possible ## every test but the load tests; of the native transport too, where there is cargo
	@[ ! -e .venv/.native ] || $(WITH_CARGO) sh server/native/test.sh || [ $$? -eq 3 ]
	@$(WITH_CARGO) cargo test --quiet $(GENERATOR_FLAGS) || [ $$? -eq 3 ]
	@$(WITH_CARGO) cargo build --quiet --release $(GENERATOR_FLAGS) || [ $$? -eq 3 ]
	@$(BIN)/pytest

bench: .venv/.dev .venv/peers/.installed .venv/mlserver/.installed .venv/debian/.fetched native-where-possible ## figures of registry and daemon on this machine, each with its bar
	@$(WITH_CARGO) cargo build --quiet --release $(GENERATOR_FLAGS) || [ $$? -eq 3 ]
	@$(BIN)/python -m tests.load

lint: .venv/.dev ## ruff, mypy strict, import contracts, generated files up to date, rustfmt and clippy
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m deploy.grafana.generate --check
	@$(WITH_CARGO) sh -c 'cargo fmt $(CARGO_FLAGS) --check && cargo clippy --quiet $(CARGO_FLAGS) --all-targets -- -D warnings' || [ $$? -eq 3 ]
	@$(WITH_CARGO) sh -c 'cargo fmt $(GENERATOR_FLAGS) --check && cargo clippy --quiet $(GENERATOR_FLAGS) --all-targets -- -D warnings' || [ $$? -eq 3 ]

format: .venv/.dev ## ruff format and safe fixes, rustfmt
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	@$(WITH_CARGO) cargo fmt $(CARGO_FLAGS) || [ $$? -eq 3 ]
	@$(WITH_CARGO) cargo fmt $(GENERATOR_FLAGS) || [ $$? -eq 3 ]

generate: .venv/.dev ## write what is generated and checked in: protos/src from the .proto files, Grafana's dashboards from deploy/grafana
	$(BIN)/python protos/generate.py
	$(BIN)/python -m deploy.grafana.generate

lock: $(UV) ## resolve requirements/*.txt anew, with hashes
	@PATH="$(BIN):$$PATH" sh requirements/lock.sh

clean: ## remove what make made
	rm -rf .venv .tidegate server/native/Cargo.lock tests/load/generator/Cargo.lock

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

.venv/.native: $(UV) requirements/native.txt server/native/Cargo.toml server/native/pyproject.toml server/native/tidegate_native.pyi $(wildcard server/native/src/*.rs server/native/src/*/*.rs)
	@echo "building the native transport ..."
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/native.txt
	@rm -rf .venv/.wheels
	@$(WITH_CARGO) $(BIN)/maturin build --quiet --release $(CARGO_FLAGS) --interpreter $(BIN)/python --out .venv/.wheels
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-index --reinstall --find-links .venv/.wheels tidegate-native
	@touch $@

# Make's own status does not say why it failed, so cargo is asked for once more in front of it.
native-where-possible:
	@$(WITH_CARGO) $(MAKE) --silent .venv/.native || [ $$? -eq 3 ]

.venv/debian/.fetched: $(UV) tests/debian-packages.sh
	@sh tests/debian-packages.sh

.venv/grpc-js/.fetched: $(UV) tests/node-packages.sh tests/contracts/transport/grpc_js/package.json
	@sh tests/node-packages.sh

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
