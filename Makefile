# DL-ILD. `make help` lists what can be made; README.md explains it.
# Virtual environments are made on first use, from the lock files in requirements/.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
SCAN ?=
OUT ?= demo
PROFILE ?= embedded
GRPC_PORT ?= 8001
HTTP_PORT ?= 8000
METRICS_PORT ?= 8002

VENV := .venv
SERVER_VENV := .venv-server
TOOLS := .tools
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check --quiet
PACKAGES := client export analysis
CHECKED := $(PACKAGES:%=%/src) deploy model_repository requirements tests docs
# Glue and pure modules outside the three distributions, checked as strictly as they are.
GLUE := $(filter-out $(wildcard model_repository/*/serve_*.py),$(wildcard deploy/embedded/*.py deploy/certs/*.py deploy/cluster/*.py deploy/proxy/*.py deploy/bundle/*.py deploy/load/*.py deploy/docker/*.py deploy/monitoring/*.py model_repository/*/*.py docs/*.py))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo serve test test-slow test-gpu test-deploy deploy-tools bench bench-scale bench-batch load soak lint format configs dashboard weights lock venvs clean

help:  ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- use -------------------------------------------------------------------------------------------

demo: $(VENV)/.demo $(SERVER_VENV)/.server  ## Score a phantom, or SCAN=<folder>, through a real Triton; results in OUT=demo
	@$(BIN)/python deploy/embedded/demo.py --out "$(OUT)" $(if $(SCAN),--scan "$(SCAN)")

TLS_FOLDER ?=
API_KEY_FILE ?=
# With the client's environment, whose `dlild` is what one types next.
serve: $(SERVER_VENV)/.server $(VENV)/.demo  ## Start the server on loopback: PROFILE, GRPC_PORT, HTTP_PORT, METRICS_PORT, TLS_FOLDER, API_KEY_FILE
	@exec $(SERVER_VENV)/bin/python deploy/embedded/launcher.py --profile "$(PROFILE)" \
		--grpc-port $(GRPC_PORT) --http-port $(HTTP_PORT) --metrics-port $(METRICS_PORT) \
		$(if $(TLS_FOLDER),--tls-cert "$(TLS_FOLDER)/tls.crt" --tls-key "$(TLS_FOLDER)/tls.key") \
		$(if $(API_KEY_FILE),--api-key-file "$(API_KEY_FILE)")

# ---- checks ----------------------------------------------------------------------------------------

# Two lanes side by side: tests of real servers wait half of their time, and the others compute in it.
# What a lane says comes in one piece when it ends; both go to their end, and either fails the whole.
test: $(VENV)/.dev $(SERVER_VENV)/.server checkers  ## Run the tests, in two lanes (about eight minutes on two cores)
	@echo "two lanes side by side; each tells of its tests when it is through"
	@status=0; $(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target test-servers test-others || status=$$?; \
		deploy/missing.sh $(TOOLS); exit $$status

# What checks deploy/ is fetched, as the environments are; where it cannot be, those tests are skipped, no others.
.PHONY: checkers
checkers:
	@$(MAKE) --no-print-directory $(TOOLS)/.done || echo "the programs that check deploy/ cannot be fetched: their tests are skipped" >&2

SERVERS := tests/deploy tests/integration tests/server
TRAININGS := $(patsubst %,tests/export/training/test_%.py,loop config processes validation)
.PHONY: test-servers test-others
test-servers:
	$(BIN)/python -m pytest $(SERVERS)

# What torch.export leaves in a process crashes a training there: the two are tested in processes of their own.
# One thread each: two that share a core with the other lane would wait for each other.
test-others:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SERVERS:%=--ignore %) $(TRAININGS:%=--ignore %)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TRAININGS)

test-slow: $(VENV)/.dev $(SERVER_VENV)/.server  ## Run the tests that take long
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.dev $(SERVER_VENV)/.server  ## Run the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu

test-deploy: $(VENV)/.dev $(SERVER_VENV)/.server $(TOOLS)/.done  ## Check image, Compose, Helm chart and monitoring with their own tools
	$(BIN)/python -m pytest tests/deploy $(addprefix tests/integration/test_,container.py monitoring.py cluster.py hostile.py)

deploy-tools: $(TOOLS)/.done  ## Fetch helm, kubectl, promtool, hadolint and their like into .tools

# Everything below takes minutes and wants a machine that does nothing else. Figures go to OUT and into
# docs/performance.md.
EMPTY :=
FLAT = tests deploy/embedded deploy/certs deploy/cluster deploy/proxy deploy/load $(patsubst %/,%,$(wildcard model_repository/*/))
MEASURES = PYTHONPATH=$(subst $(EMPTY) $(EMPTY),:,$(FLAT)) $(BIN)/python -m
SERVER ?=
bench bench-scale bench-batch load soak: OUT = out

bench: $(VENV)/.dev $(SERVER_VENV)/.server  ## Compare ways to score one scan: ours, one process, MONAI, a naive client
	$(MEASURES) bench.speed --out "$(OUT)"

bench-scale: $(VENV)/.dev $(SERVER_VENV)/.server  ## Measure 1 to 8 scans at once, and scans of 1 to 4 times the slices
	$(MEASURES) bench.scale --out "$(OUT)"

bench-batch: $(VENV)/.dev $(SERVER_VENV)/.server  ## Measure whether `dlild batch` keeps its server busy
	$(MEASURES) bench.batch --out "$(OUT)"

load: $(VENV)/.dev $(SERVER_VENV)/.server  ## Load the ensemble with perf_analyzer: SCAN=<folder>, SERVER=<host:port>
	$(MEASURES) load --out "$(OUT)" $(if $(SCAN),--scan "$(SCAN)") $(if $(SERVER),--server "$(SERVER)")
	$(MEASURES) bench.report load "$(OUT)/load.md"

soak: $(VENV)/.dev $(SERVER_VENV)/.server  ## Score 500 scans while clients vanish and misbehave and the server is killed
	$(MEASURES) bench.soak --out "$(OUT)"

lint: $(VENV)/.dev  ## Check style, types, imports between packages, and drift of the configs
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/mypy $(GLUE)
	$(BIN)/lint-imports
	$(BIN)/python -m dlild_export.serving.configs --check
	$(BIN)/python deploy/monitoring/dashboard.py --check

format: $(VENV)/.dev  ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

# ---- security and several servers ------------------------------------------------------------------

N ?= 3
CERTS ?= certs
NAMES ?=
CLIENTS ?= trial
CLIENT ?= trial
PORT ?= 8001
BASE_PORT ?= 8100
KEYS_MAP = $(CERTS)/keys.map
ONCE = $(CERTS)/client-$(CLIENT).api-key
.PHONY: certs certs-check key cluster bench-cluster

certs: $(VENV)/.demo  ## Make a private CA, the server's certificate and clients' in CERTS=certs: NAMES="host address", CLIENTS="name name"
	@$(BIN)/python deploy/certs/certs.py "$(CERTS)" $(NAMES:%=--name %) $(CLIENTS:%=--client %)

certs-check: $(VENV)/.demo  ## Print the days that are left to every certificate; fails where fewer than 30 are
	@$(BIN)/python deploy/certs/certs.py "$(CERTS)" --check

key: $(VENV)/.demo  ## Make an API key for CLIENT=trial that the proxy takes; shown once, or > FILE
	@$(BIN)/python deploy/proxy/keys.py "$(KEYS_MAP)" add "$(CLIENT)"

# The first key of the trial is kept in a file beside its certificate.
$(ONCE): | $(VENV)/.demo
	@umask 077 && mkdir -p "$(CERTS)" && $(BIN)/python deploy/proxy/keys.py "$(KEYS_MAP)" add "$(CLIENT)" > "$@"

cluster: CLIENTS = $(CLIENT)
cluster: certs $(ONCE) $(SERVER_VENV)/.server  ## Start N=3 servers behind HAProxy on loopback: mutual TLS, key; PORT, BASE_PORT
	@PYTHONPATH=deploy/embedded exec $(BIN)/python deploy/cluster/cluster.py --servers $(N) --port $(PORT) --base-port $(BASE_PORT) \
		--certificates "$(CERTS)" --keys "$(KEYS_MAP)" --client "$(CLIENT)" --api-key-file "$(ONCE)"

bench-cluster: OUT = out
bench-cluster: $(VENV)/.dev $(SERVER_VENV)/.server  ## Measure scans a minute of N=3 servers behind the proxy against one
	$(MEASURES) bench.cluster --servers $(N) --out "$(OUT)"

# ---- growth ----------------------------------------------------------------------------------------

BUNDLE ?= dlild-bundle
WHEELS ?=
.PHONY: bundle load-scans

bundle: $(TOOLS)/.done  ## Gather what an air-gapped site needs into BUNDLE=dlild-bundle; WHEELS=yes adds the client's packages
	@$(TOOLS)/venv/bin/python deploy/bundle/bundle.py "$(BUNDLE)" $(if $(WHEELS),--wheels)

load-scans: OUT = out
load-scans: $(VENV)/.dev $(SERVER_VENV)/.server  ## Load a server with whole scans by our own client: SCAN=<folder>, SERVER=<url>
	$(MEASURES) whole_scans --out "$(OUT)" $(if $(SCAN),--scan "$(SCAN)") $(if $(SERVER),--url "$(SERVER)")

# ---- what is made from something else --------------------------------------------------------------

configs: $(VENV)/.demo  ## Render every config.pbtxt from model_repository/contract.json
	$(BIN)/python -m dlild_export.serving.configs

dashboard: $(VENV)/.demo  ## Make the Grafana dashboard from its script, and the Helm chart's copies
	$(BIN)/python deploy/monitoring/dashboard.py

.PHONY: pictures
pictures: $(VENV)/.demo  ## Draw docs/pictures from the code
	$(BIN)/python -m docs.pictures

LUNG_MASKS ?=
SCANS ?=
RUN ?= runs/next
RECIPE ?= export/recipes/weights-v5.toml

weights: $(VENV)/.dev  ## Make the weights of RECIPE in RUN=runs/next (hours; goes on after a stop); LUNG_MASKS=<folder> of real lung shapes, SCANS=<folder> of real scans without ILD
	$(BIN)/dlild-export recipe $(RECIPE) --out "$(RUN)" $(if $(LUNG_MASKS),--lung-masks "$(LUNG_MASKS)") $(if $(SCANS),--scans "$(SCANS)")

lock: $(VENV)/.dev  ## Resolve the dependencies anew and write requirements/*.lock
	PATH="$(CURDIR)/$(BIN):$$PATH" requirements/lock.sh

venvs: $(VENV)/.dev $(SERVER_VENV)/.server  ## Make both virtual environments

clean:  ## Remove the virtual environments, caches and the demo's output
	rm -rf $(VENV) $(SERVER_VENV) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis demo

# ---- virtual environments --------------------------------------------------------------------------

$(VENV)/bin/python:
	@requirements/check-python.sh "$(PYTHON)"
	"$(PYTHON)" -m venv $(VENV)

$(SERVER_VENV)/bin/python:
	@requirements/check-python.sh "$(PYTHON)"
	"$(PYTHON)" -m venv $(SERVER_VENV)

$(SERVER_VENV)/.server: requirements/server.lock | $(SERVER_VENV)/bin/python
	$(SERVER_VENV)/bin/python $(PIP) install --no-deps --require-hashes -r requirements/server.lock
	@touch $@

# Everything but torch: client, phantoms, configs.
$(VENV)/.demo: requirements/demo.lock client/pyproject.toml export/pyproject.toml | $(VENV)/bin/python
	$(BIN)/python $(PIP) install --no-deps --require-hashes -r requirements/demo.lock
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation -e client -e export
	@touch $@

$(TOOLS)/.done: deploy/tools.sh requirements/deploy.lock requirements/helm.lock
	deploy/tools.sh $(TOOLS) "$(PYTHON)"
	@touch $@

# torch comes last, when all that it needs of the registry is there in locked versions, and without a
# hash: machines differ in whether they take its CPU or its CUDA build.
$(VENV)/.dev: requirements/dev.lock $(PACKAGES:%=%/pyproject.toml) | $(VENV)/bin/python
	$(BIN)/python $(PIP) install --no-deps --require-hashes -r requirements/dev.lock
	$(BIN)/python $(PIP) install torch==2.13.0
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $(VENV)/.demo $@
