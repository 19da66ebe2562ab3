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
PACKAGES := client export analysis deploy
CHECKED := .ci $(PACKAGES:%=%/setup.py) $(PACKAGES:%=%/src) model_repository requirements tests docs
# Modules that Triton loads: in no distribution, and checked as strictly as those. What several models have under one name is
# checked where it is rendered from.
GLUE := $(filter-out $(wildcard model_repository/*/serve_*.py model_repository/*/parent_death.py),$(wildcard model_repository/*/*.py docs/*.py))
# The source roots, as pyproject.toml lists them.
SOURCE_ROOTS = $(shell $(BIN)/python -c 'import tomllib; print(":".join(tomllib.load(open("pyproject.toml", "rb"))["tool"]["mypy"]["mypy_path"]))')
DEPLOY := $(BIN)/dlild-deploy

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo serve test test-slow test-all test-gpu test-deploy deploy-tools bench bench-scale bench-batch load goodput soak lint format configs dashboard weights lock venvs clean

help:  ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- use -------------------------------------------------------------------------------------------

demo: $(VENV)/.demo $(SERVER_VENV)/.server  ## Score a phantom, or SCAN=<folder>, through a real Triton; results in OUT=demo
	@$(DEPLOY) demo --out "$(OUT)" $(if $(SCAN),--scan "$(SCAN)")

TLS_FOLDER ?=
API_KEY_FILE ?=
serve: $(SERVER_VENV)/.server $(VENV)/.demo  ## Start the server on loopback: PROFILE, GRPC_PORT, HTTP_PORT, METRICS_PORT, TLS_FOLDER, API_KEY_FILE
	@exec $(DEPLOY) serve --profile "$(PROFILE)" \
		--grpc-port $(GRPC_PORT) --http-port $(HTTP_PORT) --metrics-port $(METRICS_PORT) \
		$(if $(TLS_FOLDER),--tls-cert "$(TLS_FOLDER)/tls.crt" --tls-key "$(TLS_FOLDER)/tls.key") \
		$(if $(API_KEY_FILE),--api-key-file "$(API_KEY_FILE)")

# ---- checks ----------------------------------------------------------------------------------------

# Lines that the tests run, of every source root; a data file for each process of tests. The servers' own are not counted.
COVERAGE ?=
covered = $(if $(COVERAGE),COVERAGE_FILE=.coverage.$(1))
COUNT = $(if $(COVERAGE),$(foreach root,$(subst :, ,$(SOURCE_ROOTS)),--cov=$(root)) --cov-report=)

# What is slow has a faster neighbour in the default run, which finds the same kind of fault; properties (`hypothesis`) are tried
# with fewer examples there.
MARKED = not slow and not gpu
EXAMPLES =
test-slow: MARKED = (slow or hypothesis) and not gpu
test-all: MARKED = not gpu
test-slow test-all: EXAMPLES = all
# Three lanes in parallel, on two cores: tests of servers and commands wait half of their time, and the others compute in it.
# The output of a lane comes in one piece when it ends; all run to their end, and each fails the whole.
test:  ## Run the tests that are not slow, in three lanes (TIME on two slow cores); COVERAGE=yes ends with a table
test-slow:  ## Run the slow tests, and properties with all examples: every night
test-all:  ## Run both; COVERAGE=yes ends with a table
test test-slow test-all: $(VENV)/.dev $(SERVER_VENV)/.server checkers
	@echo "three lanes in parallel; each prints its results when it ends"
	@status=0; $(MAKE) --no-print-directory --keep-going --jobs=3 --output-sync=target MARKED="$(MARKED)" EXAMPLES=$(EXAMPLES) test-servers test-client test-others || status=$$?; \
		deploy/missing.sh $(TOOLS); $(if $(COVERAGE),$(BIN)/python .ci/coverage_table.py;) exit $$status

# The programs that check deploy/ are fetched; where they cannot be, their tests are skipped, and no others.
.PHONY: checkers
checkers:
	@$(MAKE) --no-print-directory $(TOOLS)/.done || echo "the programs that check deploy/ cannot be fetched: their tests are skipped" >&2

# Each lane ends with its slowest tests: what is made faster first.
PYTEST = $(if $(EXAMPLES),DLILD_EXAMPLES=$(EXAMPLES)) $(BIN)/python -m pytest --durations=30 --durations-min=2 -m "$(MARKED)"
SERVERS := tests/deploy tests/integration tests/server tests/client/archive tests/client/cli
TRAININGS := $(patsubst %,tests/export/training/test_%.py,loop config distillation processes validation)
.PHONY: test-servers test-client test-others
test-servers:
	$(call covered,servers) $(PYTEST) $(COUNT) $(SERVERS)

# One thread each: two threads that share a core with another lane would wait for each other.
test-client:
	OMP_NUM_THREADS=1 $(call covered,client) $(PYTEST) $(COUNT) tests/client $(SERVERS:%=--ignore %)

# torch.export leaves a process in a state that crashes a training in it: the two are tested in separate processes.
test-others:
	OMP_NUM_THREADS=1 $(call covered,others) $(PYTEST) $(COUNT) --ignore tests/client $(SERVERS:%=--ignore %) $(TRAININGS:%=--ignore %)
	OMP_NUM_THREADS=1 $(call covered,trainings) $(PYTEST) $(COUNT) $(TRAININGS)

BACKENDS ?=
.PHONY: test-backends
test-backends: $(VENV)/.dev $(SERVER_VENV)/.server  ## Run the tests of the server with the Triton backends in BACKENDS=<folder>, of Triton 24.10, on PROFILE=onnxruntime
	@test -n "$(BACKENDS)" || { echo "give BACKENDS=<folder with onnxruntime/libtriton_onnxruntime.so>"; exit 2; }
	DLILD_BACKENDS="$(BACKENDS)" DLILD_PROFILE=$(if $(filter embedded,$(PROFILE)),onnxruntime,$(PROFILE)) \
		$(BIN)/python -m pytest -rs tests/integration --ignore tests/integration/commands --ignore tests/integration/cluster

test-gpu: $(VENV)/.dev $(SERVER_VENV)/.server  ## Run the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu

test-deploy: $(VENV)/.dev $(SERVER_VENV)/.server $(TOOLS)/.done  ## Check image, Compose, Helm chart and monitoring with their own tools
	$(BIN)/python -m pytest tests/deploy $(addprefix tests/integration/,commands/test_container.py test_monitoring.py cluster/test_cluster.py cluster/test_hostile.py)

deploy-tools: $(TOOLS)/.done  ## Fetch helm, kubectl, promtool, hadolint and their like into .tools

# Everything below takes minutes and needs a machine without other load. Figures go to OUT and into
# docs/performance.md.
MEASURE = PYTHONPATH=tests:$(SOURCE_ROOTS) $(BIN)/python -m
SERVER ?=
bench bench-scale bench-batch load goodput soak: OUT = out

BEFORE ?=
bench: $(VENV)/.dev $(SERVER_VENV)/.server $(VENV)/nnunet/.done  ## Compare ways to score one scan: ours, one process, MONAI, nnU-Net, a naive client, BEFORE=<earlier checkout>
	$(MEASURE) bench.speed --out "$(OUT)" --nnunet $(VENV)/nnunet $(if $(BEFORE),--before "$(BEFORE)")

$(VENV)/nnunet/.done: requirements/nnunet.txt | $(VENV)/.dev
	rm -rf $(@D)
	$(BIN)/python $(PIP) install --no-deps --target $(@D) -r requirements/nnunet.txt
	@touch $@

bench-scale: $(VENV)/.dev $(SERVER_VENV)/.server  ## Measure 1 to 8 scans at once, and scans of 1 to 4 times the slices
	$(MEASURE) bench.scale --out "$(OUT)"

bench-batch: $(VENV)/.dev $(SERVER_VENV)/.server  ## Measure whether `dlild batch` keeps its server busy
	$(MEASURE) bench.batch --out "$(OUT)"

load: $(VENV)/.dev $(SERVER_VENV)/.server  ## Load `dlild` with perf_analyzer: SCAN=<folder>, SERVER=<host:port>
	$(DEPLOY) load windows --out "$(OUT)" $(if $(SCAN),--scan "$(SCAN)") $(if $(SERVER),--server "$(SERVER)")
	$(MEASURE) bench.report load "$(OUT)/load.md"

goodput: $(VENV)/.dev $(SERVER_VENV)/.server  ## Measure scans finished a minute at 1 to 32 times what the server can do, and with a network ten times as slow
	$(MEASURE) bench.goodput --out "$(OUT)"

soak: $(VENV)/.dev $(SERVER_VENV)/.server  ## Score SCANS=1000 scans while clients vanish, misbehave or are slow, and the server is killed and upgraded; LIGHT=yes for slow machines
	$(MEASURE) bench.soak --out "$(OUT)" $(if $(SCANS),--scans $(SCANS)) $(if $(LIGHT),--light)

lint: $(VENV)/.dev  ## Check style, types, imports between packages, and drift of the configs
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/mypy $(GLUE)
	$(BIN)/lint-imports
	$(BIN)/python -m dlild_export.serving.configs --check
	$(DEPLOY) dashboard --check

format: $(VENV)/.dev  ## Format the code and apply the fixes of ruff
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
	@$(DEPLOY) certs make "$(CERTS)" $(NAMES:%=--name %) $(CLIENTS:%=--client %)

certs-check: $(VENV)/.demo  ## Print the days left to every certificate; fails below 30
	@$(DEPLOY) certs check "$(CERTS)"

key: $(VENV)/.demo  ## Make an API key for CLIENT=trial that the proxy accepts; printed once, or > FILE
	@$(DEPLOY) keys add "$(KEYS_MAP)" "$(CLIENT)"

# The first key of a client is kept in a file beside its certificate.
$(ONCE): | $(VENV)/.demo
	@umask 077 && mkdir -p "$(CERTS)" && $(DEPLOY) keys add "$(KEYS_MAP)" "$(CLIENT)" > "$@"

cluster: CLIENTS = $(CLIENT)
cluster: certs $(ONCE) $(SERVER_VENV)/.server  ## Start N=3 servers behind HAProxy on loopback: mutual TLS, key; PORT, BASE_PORT
	@exec $(DEPLOY) cluster --servers $(N) --port $(PORT) --base-port $(BASE_PORT) \
		--certificates "$(CERTS)" --keys "$(KEYS_MAP)" --client "$(CLIENT)" --api-key-file "$(ONCE)"

bench-cluster: OUT = out
bench-cluster: $(VENV)/.dev $(SERVER_VENV)/.server  ## Measure scans a minute of N=3 servers behind the proxy against one
	$(MEASURE) bench.cluster --servers $(N) --out "$(OUT)"

# ---- bundle and load by whole scans ----------------------------------------------------------------

BUNDLE ?= dlild-bundle
WHEELS ?=
.PHONY: bundle load-scans

bundle: $(VENV)/.demo $(TOOLS)/.done  ## Gather what an air-gapped site needs into BUNDLE=dlild-bundle; WHEELS=yes adds packages of client and operations
	@$(DEPLOY) bundle "$(BUNDLE)" $(if $(WHEELS),--wheels)

load-scans: OUT = out
load-scans: $(VENV)/.dev $(SERVER_VENV)/.server  ## Load a server with whole scans by our own client: SCAN=<folder>, SERVER=<url>
	$(DEPLOY) load scans --out "$(OUT)" $(if $(SCAN),--scan "$(SCAN)") $(if $(SERVER),--url "$(SERVER)")

# ---- what is made from something else --------------------------------------------------------------

configs: $(VENV)/.demo  ## Render every config.pbtxt from model_repository/contract.json
	$(BIN)/python -m dlild_export.serving.configs

dashboard: $(VENV)/.demo  ## Make the Grafana dashboard, and the Helm chart's copies of it and of the alert rules
	$(DEPLOY) dashboard

.PHONY: pictures
pictures: $(VENV)/.demo  ## Draw docs/pictures from the code
	$(BIN)/python -m docs.pictures

.PHONY: screenshots
screenshots: $(VENV)/.dev $(SERVER_VENV)/.server  ## Take the pictures of report and comparison: two phantom patients, the real server, chromium
	PYTHONPATH=.:$(SOURCE_ROOTS) $(BIN)/python -m docs.screenshots

OHIF ?= 3.12.10
.PHONY: ohif
ohif: $(VENV)/.dev $(SERVER_VENV)/.server  ## Show a result of the real CT in the OHIF viewer (npm, Orthanc, chromium): docs/pictures/ohif.png
	@mkdir -p $(TOOLS)/ohif && cd $(TOOLS)/ohif && \
		{ test -d package/dist || { npm pack --silent @ohif/app@$(OHIF) && tar -xzf ohif-app-$(OHIF).tgz; }; }
	$(MEASURE) viewer.ohif --app $(TOOLS)/ohif/package/dist --out docs/pictures/ohif.png

LUNG_MASKS ?=
SCANS ?=
SINGLE_SLICES ?=
RUN ?= runs/next
RECIPE ?= export/recipes/weights-v8.toml

weights: $(VENV)/.dev  ## Make the weights of RECIPE in RUN=runs/next (hours; goes on after a stop); LUNG_MASKS=<folder> of real lung shapes, SCANS=<folder> of real scans without ILD
	$(BIN)/dlild-export recipe $(RECIPE) --out "$(RUN)" $(if $(LUNG_MASKS),--lung-masks "$(LUNG_MASKS)") $(if $(SCANS),--scans "$(SCANS)") $(if $(SINGLE_SLICES),--single-slices "$(SINGLE_SLICES)")

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
$(VENV)/.demo: requirements/demo.lock VERSION client/pyproject.toml export/pyproject.toml deploy/pyproject.toml | $(VENV)/bin/python
	$(BIN)/python $(PIP) install --no-deps --require-hashes -r requirements/demo.lock
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation -e client -e export -e deploy
	@touch $@

$(TOOLS)/.done: deploy/tools.sh requirements/deploy.lock requirements/helm.lock
	deploy/tools.sh $(TOOLS) "$(PYTHON)"
	@touch $@

# torch comes last, when all that it needs of the registry is there in locked versions, and without a
# hash: machines differ in whether they take its CPU or its CUDA build.
$(VENV)/.dev: requirements/dev.lock VERSION $(PACKAGES:%=%/pyproject.toml) | $(VENV)/bin/python
	$(BIN)/python $(PIP) install --no-deps --require-hashes -r requirements/dev.lock
	$(BIN)/python $(PIP) install torch==2.13.0
	$(BIN)/python $(PIP) install --no-deps --no-build-isolation $(PACKAGES:%=-e %)
	@touch $(VENV)/.demo $@
