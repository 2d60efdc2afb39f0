# One command per task; continuous integration calls the same ones.
PYTHON ?= python3
VENV ?= .venv
# The CPU and the GPU runtime exclude each other, so one of them is chosen for everything in this environment.
RUNTIME ?= $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
DATA ?= data/celeba
PRESET ?= celeba64
RUN ?= runs/$(PRESET)

BIN := $(VENV)/bin
SERVE_READY := $(VENV)/.serve-$(RUNTIME)
DEV_READY := $(VENV)/.dev-$(RUNTIME)

.PHONY: serve test lint format bench train clean

serve: $(SERVE_READY)
	$(BIN)/python -m service

test: $(DEV_READY)
	$(BIN)/python -m pytest

lint: $(DEV_READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(DEV_READY)
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: $(DEV_READY)
	$(BIN)/python -m benchmarks.graphs

# From pictures to an evaluated bundle: DATA is a directory in CelebA's layout. Takes hours on a CPU; a stopped run goes on.
train: $(DEV_READY)
	$(BIN)/python -m training fit --preset $(PRESET) --data $(DATA) --workdir $(RUN) --resume
	test -f $(RUN)/classifier.pt || $(BIN)/python -m training judge --preset $(PRESET) --data $(DATA) --seed 9001 --out $(RUN)/classifier.pt
	test -f $(RUN)/judge.pt || $(BIN)/python -m training judge --preset $(PRESET) --data $(DATA) --seed 7001 --out $(RUN)/judge.pt
	$(BIN)/python -m training calibrate --data $(DATA) --workdir $(RUN) --classifier $(RUN)/classifier.pt
	$(BIN)/python -m export bundle --checkpoint $(RUN)/calibrated.pt --out bundles/$(PRESET)
	$(BIN)/python -m training evaluate --data $(DATA) --bundle bundles/$(PRESET) --judge $(RUN)/judge.pt --out $(RUN)/evaluation
	$(BIN)/python -m export attach --bundle bundles/$(PRESET) --evaluation $(RUN)/evaluation/evaluation.json
	$(BIN)/python -m training figures --data $(DATA) --bundle bundles/$(PRESET) --out $(RUN)/figures

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Facet needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(SERVE_READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME)]'
	@touch $@

$(DEV_READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME),train,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build *.egg-info
