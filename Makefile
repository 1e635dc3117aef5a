# `make run` and `make test` do all of their own set-up. What was done is remembered in stamp files, so a
# second call starts at once; a stamp falls when one of its inputs changes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

LOCAL  := .local
STAMPS := $(LOCAL)/stamps
BIN    := .venv/bin
PYTHON_DIRS := $(wildcard reconciler tests bench)
GUEST_FILES := $(shell find guest -type f 2>/dev/null)

STATE_DIR := $(LOCAL)/state
RUN_DIR   := $(LOCAL)/run
DIRS      := --manifests manifests --state-dir $(STATE_DIR) --run-dir $(RUN_DIR)
LISTEN    ?= localhost:3000
WEB        = $(patsubst %,http://%,$(firstword $(filter-out unix:%,$(subst $(comma), ,$(LISTEN)))))
comma     := ,

# The same directories for the command line of whoever is at the terminal: export RECONCILER_CONFIG=…
CONFIG    := $(LOCAL)/config.yaml
define CONFIG_TEXT
# Written by `make run`: where its agent has what. All settings: reconciler run --help
manifests: $(CURDIR)/manifests
stateDir: $(CURDIR)/$(STATE_DIR)
runDir: $(CURDIR)/$(RUN_DIR)
endef

define WELCOME
manifests  manifests/*.yaml: edit and save, and the agent does the rest
commands   export RECONCILER_CONFIG=$(CURDIR)/$(CONFIG)
           .venv/bin/reconciler get          (describe demo, stop demo, doctor, … : --help)
screens    $(WEB)/consoles    (in your browser; or vncviewer localhost:5901, the demo's)
           tail -f $(STATE_DIR)/vms/demo/serial.log
API        $(WEB)/docs        (every request, to read and to try)
the end    Ctrl-C ends the agent, and the VMs go on; `make stop` shuts them down

endef

# One set-up at a time, should two terminals ask for it at once.
SETUP := mkdir -p $(STAMPS) && flock $(STAMPS)/lock .ci/setup

.PHONY: help setup run stop test lint unit soak bench fmt docs lock clean

help: ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(STAMPS)/system .venv/.project $(STAMPS)/web $(STAMPS)/guest ## install what is missing: Debian packages, .venv, npm's packages, the tiny guest

run: setup $(STATE_DIR)/iso/demo.iso ## start the agent on ./manifests; another port: make run LISTEN=localhost:3100
	$(file >$(CONFIG),$(CONFIG_TEXT))
	$(info $(WELCOME))
	@exec $(BIN)/reconciler run $(DIRS) --listen $(LISTEN)

stop: ## end the agent of `make run`, and shut its VMs down properly
	@if [[ ! -x $(BIN)/reconciler || ! -d $(STATE_DIR) ]]; then \
	  echo 'Nothing was ever started here: nothing to stop.'; \
	else exec $(BIN)/reconciler host-shutdown $(DIRS); fi

test: lint unit ## everything that .ci/run runs: lint, then every test, real QEMU included

lint: setup ## ruff, formatting, types, layers
	$(BIN)/ruff check $(PYTHON_DIRS)
	$(BIN)/ruff format --check $(PYTHON_DIRS)
	$(BIN)/mypy $(PYTHON_DIRS)
	$(BIN)/lint-imports

unit: setup $(STAMPS)/browser ## every test; a part of them: make unit ARGS='tests/unit -k planner'
	$(BIN)/pytest $(ARGS)

soak: setup ## the long tests: crowds of clients, thousands of made-up requests
	$(BIN)/pytest -m soak -n 0 --timeout 0 $(ARGS)

bench: setup ## measurements
	$(BIN)/python -m bench $(ARGS)

fmt: setup ## format, and mend what ruff can mend
	$(BIN)/ruff format $(PYTHON_DIRS)
	$(BIN)/ruff check --fix $(PYTHON_DIRS)

docs: setup ## renew docs/fields.md
	$(BIN)/reconciler fields -o markdown > docs/fields.md

# uv keeps the pins that still fit; make lock ARGS=--upgrade takes the newest. Hashes only, no addresses:
# where packages come from is the machine's affair.
lock: .venv/.packages ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml --group dev --universal --python-version 3.11 \
	  --generate-hashes --custom-compile-command 'make lock' --output-file requirements.lock $(ARGS)

clean: ## remove .venv and what was built; keeps the VMs' state (.local/state) and downloads (.local/cache)
	rm -rf .venv $(STAMPS) $(LOCAL)/guest reconciler/web/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist

# ---- set-up ------------------------------------------------------------------------------------------

$(STAMPS)/system: .ci/setup
	@$(SETUP) system
	@touch $@

.venv/.packages: requirements.lock .ci/setup | $(STAMPS)/system
	@$(SETUP) python
	@touch $@

.venv/.project: pyproject.toml .venv/.packages
	@$(SETUP) project
	@touch $@

$(STAMPS)/web: $(addprefix reconciler/web/,package.json package-lock.json .npmrc) .ci/setup | $(STAMPS)/system
	@$(SETUP) web
	@touch $@

$(STAMPS)/browser: .ci/setup | $(STAMPS)/system
	@$(SETUP) browser
	@touch $@

$(STAMPS)/guest: $(GUEST_FILES) .ci/setup | $(STAMPS)/system
	@$(SETUP) debs
	@flock $(STAMPS)/lock guest/build.sh $(LOCAL)/guest $(LOCAL)/cache
	@touch $@

# The demo's ISO where a manifest's relative isoPath is looked for. Replaced by rename, so that a running
# VM keeps the file it has open.
$(STATE_DIR)/iso/demo.iso: $(STAMPS)/guest
	@umask 077 && mkdir -p $(@D)
	@ln -f $(LOCAL)/guest/demo.iso $@.new 2>/dev/null || cp --reflink=auto $(LOCAL)/guest/demo.iso $@.new
	@mv -f $@.new $@
	@touch $@
