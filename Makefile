# Needs only Python (3.11 or later), make and a package index. `make demo` is the place to start.
#
#   install   the library and its command, into .venv
#   demo      animate the example portrait and say where the result is
#   test      everything, with the tools and extras that it needs
#   check     formatting, lint, types, architecture: seconds, run it before each commit
#   bench     frames per second and latency on this machine; how fast the large families could be on a GPU
#   docs      check the documentation: links, decisions, changelog
#   clean     remove what the targets above made, except .venv

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
EXTRAS := dev,train,studio,eval,diffusion,serve,webrtc,marks,export
JOBS ?= 2

# One thread per process: two processes share two cores better than two thread pools do.
export OMP_NUM_THREADS ?= 1
# No lookup on a model hub, ever: each would cost half a minute of retries without a network.
export HF_HUB_OFFLINE := 1

INSTALL := $(RUN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

# Two installations into one environment at a time would break it.
.NOTPARALLEL:

.PHONY: help install dev demo models test check bench docs clean

help:
	@sed -n 's/^#   //p' Makefile

$(RUN)/python:
	$(PYTHON) -m venv $(VENV)

# Stamps live in the environment, so that removing it forgets them.
$(VENV)/.stamp-core: pyproject.toml constraints.txt | $(RUN)/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml constraints.txt | $(RUN)/python
	$(INSTALL) --editable ".[$(EXTRAS)]"
	@touch $(VENV)/.stamp-core $@

install: $(VENV)/.stamp-core

dev: $(VENV)/.stamp-dev

# Three small networks that find faces, fetched once into the user's cache and checked by hash.
models: | $(VENV)/.stamp-core
	@$(RUN)/python -c "from vivant.face.models import fetch_face_models; fetch_face_models(print)"

demo: install models
	$(RUN)/vivant animate --source examples/astronaut.png --driving examples/driving.mp4 --output demo.mp4 --overwrite
	@echo "The result is $(CURDIR)/demo.mp4"

test: dev models
	$(RUN)/python -m pytest -n $(JOBS)

check: dev
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/python -m pytest -p no:cacheprovider tests/test_architecture.py

bench: install models
	$(RUN)/vivant bench
	$(RUN)/python benchmarks/floor.py

docs: dev
	$(RUN)/python -m pytest tests/test_docs.py

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis demo.mp4 demo.json
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
