# make install | demo [WAV=file] | test | test-fast | test-clients | soak | lint | format | bench | docs
# make dist | check-dist | check-image | check-gpu
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
STAMP := $(VENV)/.installed
SHELLS := $(shell git ls-files '*.sh' .ci/run)
MODEL ?= paraformer-zh-mini
CLIENTS ?= .venv-clients
WAV ?= paraformer/bundled/paraformer-zh-mini/example
# A worker a processor; the tests of a file stay together, since they share its models, and files
# start in their order: those of whole programs and recipes, which take longest, come first.
WORKERS ?= auto
PARALLEL := -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: all install demo test test-fast test-clients lint format bench docs
.PHONY: dist check-dist check-image check-gpu soak
all: lint test

install: $(STAMP)

# What recognition needs. TORCH_INDEX: the package index to take torch from, such as PyTorch's own of CPU builds.
$(CORE): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') torch==2.11.0
	$(BIN)/pip install --quiet --editable .
	touch $@

# The rest: tests, checks and recipes. torchaudio must fit torch, which is why both are pinned here.
$(STAMP): $(CORE)
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') torchaudio==2.11.0
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/pip install --quiet --editable '.[lm]' 2> /dev/null || \
	  echo "kenlm wants a C++ compiler and Python before 3.13: left out, and the tests of lm_file with it" >&2
	touch $@

demo: $(CORE)
	$(BIN)/funasr +model=$(MODEL) '+input=$(WAV)' +verbose=true

test: install
	$(BIN)/pytest $(PARALLEL)

test-fast: install
	$(BIN)/pytest $(PARALLEL) -m 'not recipe and not cli'

# Clients of the service that others have written, each in an environment of its own.
test-clients: install
	PARAFORMER_CLIENTS='$(CLIENTS)' $(BIN)/pytest tests/clients -rs

# What the service promises of many clients and of long ones, on servers of its own: about an hour.
SOAK ?= together short surplus files long
soak: install
	for what in $(SOAK); do $(BIN)/python tests/bench/soak.py $$what || exit 1; done

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for file in $(SHELLS); do bash -n "$$file" || exit 1; done
	if command -v shellcheck > /dev/null; then shellcheck -x $(SHELLS); fi

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documents, in exp/docs/site: pages of docs/pages, READMEs, and what the code tells of itself.
docs: install
	$(BIN)/python docs/build.py exp/docs/pages
	$(BIN)/python -m mkdocs build --strict --quiet --config-file docs/mkdocs.yml

# The source distribution and the wheel, in dist/. PYTHON needs nothing but venv.
dist:
	rm -rf dist build
	$(PYTHON) -m venv --clear .venv-dist
	.venv-dist/bin/pip install --quiet build
	.venv-dist/bin/python -m build --outdir dist

# PYTHONS: those to try the wheel with; all from 3.10 to 3.14 that are there if none is named.
check-dist: dist
	PIP_ARGS="$(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)')" tests/check_dist.sh dist/*.whl $(PYTHONS)

# What the lines of the service's image do, in an empty environment: no image is built.
check-image:
	TORCH_INDEX='$(TORCH_INDEX)' tests/check_image.sh

# Recognition on a CUDA device beside the CPU; "no GPU" where there is none.
check-gpu: install
	mkdir -p exp
	$(BIN)/python tests/check_gpu.py exp/check_gpu.json

# Ours and the peers side by side. PEER (or PARAFORMER_PEER_PYTHON): python of a venv with funasr
# 1.4.16; PEER_INSTALL=true makes one in .venv-peer. BENCH: options of tests/bench/run.py.
bench: install
	$(BIN)/python tests/bench/run.py $(if $(PEER),--peer '$(PEER)') \
		$(if $(filter true,$(PEER_INSTALL)),--install-peer) $(BENCH)
