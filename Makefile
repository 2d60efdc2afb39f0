# One command per task; continuous integration calls the same ones.
PYTHON ?= python3
VENV ?= .venv
# The CPU and the GPU runtime exclude each other, so one of them is chosen for everything in this environment.
RUNTIME ?= $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
DATA ?= data/celeba
PRESET ?= celeba128
# The bundle's name is the one in the preset, whatever its file is called.
PRESET_FILE := $(if $(filter %.toml,$(PRESET)),$(PRESET),training/presets/$(PRESET).toml)
NAME ?= $(shell sed -n 's/^name *= *"\(.*\)".*/\1/p' $(PRESET_FILE) 2>/dev/null | head -n 1)
RUN ?= runs/$(NAME)
VERSION ?= 1.0.0
# A preset with a second one beside it, NAME-editor, gets an editor of photographs.
EDITOR_FILE := $(dir $(PRESET_FILE))$(NAME)-editor.toml
EDITOR_PRESET ?= $(if $(wildcard $(EDITOR_FILE)),$(if $(filter %.toml,$(PRESET)),$(EDITOR_FILE),$(NAME)-editor))
EDITOR_RUN ?= $(RUN)-editor
# Whoever judges edited photographs weighs rare values as much as common ones, and looks longer.
JUDGE ?= --preset $(PRESET) $(if $(EDITOR_PRESET),--balance 10 --epochs 14)
# The operating point that puts disentanglement first keeps its gains at 1: others put a part of the
# attributes back into the latent.
CALIBRATION ?= $(if $(findstring beta4,$(PRESET)),--gains 1)
LICENCE ?= non-commercial research only, as the terms of the CelebA dataset ask

BIN := $(VENV)/bin
OTHER := $(if $(filter cpu,$(RUNTIME)),gpu,cpu)
# Installing one runtime over the other silently breaks both.
DROP_OTHER_RUNTIME = $(BIN)/python -m pip uninstall --quiet --yes onnxruntime$(if $(filter gpu,$(OTHER)),-gpu) 2>/dev/null; \
	rm -f $(VENV)/.serve-$(OTHER) $(VENV)/.test-$(OTHER) $(VENV)/.dev-$(OTHER)
SERVE_READY := $(VENV)/.serve-$(RUNTIME)
TEST_READY := $(VENV)/.test-$(RUNTIME)
DEV_READY := $(VENV)/.dev-$(RUNTIME)

# Networks of others that find faces. Without them the service takes pictures that are framed already, and says so.
FETCH_WEIGHTS = $(BIN)/python -m service.weights

# Tests of what runs without torch, Ray and a browser.
FAST_TESTS := tests/service tests/facet tests/deploy tests/benchmarks tests/test_painter.py tests/test_readme.py

.PHONY: serve weights test test-fast lint format bench fuzz soak containers compose train clean

serve: $(SERVE_READY)
	-@$(FETCH_WEIGHTS)
	$(BIN)/python -m service

test: $(DEV_READY)
	-@$(FETCH_WEIGHTS)
	$(BIN)/python -m pytest

# Runs in an environment without torch, Ray and browsers too. Half of the time is waiting, so there are more processes
# than cores.
test-fast: $(TEST_READY)
	-@$(FETCH_WEIGHTS)
	$(BIN)/python -m pytest -n 4 -p no:schemathesis -m "not slow" $(FAST_TESTS)

weights: $(SERVE_READY)
	$(FETCH_WEIGHTS)

lint: $(DEV_READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(DEV_READY)
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: $(DEV_READY)
	$(BIN)/python -m benchmarks.graphs
	$(BIN)/python -m benchmarks.serving --prepare
	$(BIN)/python -m benchmarks.endurance

# Attacks: requests made from the service's own description, and pictures made to break decoders.
fuzz: $(DEV_READY)
	$(BIN)/python -m benchmarks.faults.schema
	$(BIN)/python -m benchmarks.faults.pictures

# An hour of everything at 70% of the peak. Needs a machine to itself.
soak: $(DEV_READY)
	$(BIN)/python -m benchmarks.soak

# Builds an image and tries it; OPTIONS are those of the script, such as `--target cuda`.
containers:
	$(PYTHON) deploy/prove_containers.py $(OPTIONS)

# Brings docker-compose.yml up with the image of `make containers`, without Grafana, and down again.
compose:
	$(PYTHON) deploy/prove_compose.py $(OPTIONS)

# From pictures to an evaluated bundle: DATA is a directory in CelebA's layout, its lists as text or as Kaggle's .csv. Takes hours on a CPU; a
# stopped run goes on.
train: $(DEV_READY)
	$(BIN)/python -m training fit --preset $(PRESET) --data $(DATA) --workdir $(RUN) --resume
	test -f $(RUN)/judge.pt || $(BIN)/python -m training judge $(JUDGE) --data $(DATA) --seed 7001 --out $(RUN)/judge.pt
ifeq ($(EDITOR_PRESET),)
	test -f $(RUN)/classifier.pt || $(BIN)/python -m training judge --preset $(PRESET) --data $(DATA) --seed 9001 --out $(RUN)/classifier.pt
	$(BIN)/python -m training calibrate --data $(DATA) --workdir $(RUN) --classifier $(RUN)/classifier.pt $(CALIBRATION)
	$(BIN)/python -m export bundle --checkpoint $(RUN)/calibrated.pt --out bundles/$(NAME) --version $(VERSION) --weights-licence "$(LICENCE)"
else
	$(BIN)/python -m training fetch
	MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 \
		$(BIN)/python -m training fit --preset $(EDITOR_PRESET) --data $(DATA) --workdir $(EDITOR_RUN) --resume
	$(BIN)/python -m training calibrate --data $(DATA) --workdir $(RUN)
	$(BIN)/python -m export bundle --checkpoint $(RUN)/calibrated.pt --editor $(EDITOR_RUN)/last.pt --out bundles/$(NAME) \
		--version $(VERSION) --weights-licence "$(LICENCE)"
endif
	$(BIN)/python -m training evaluate --data $(DATA) --bundle bundles/$(NAME) --judge $(RUN)/judge.pt --out $(RUN)/evaluation
	$(BIN)/python -m export attach --bundle bundles/$(NAME) --evaluation $(RUN)/evaluation/evaluation.json
ifneq ($(EDITOR_PRESET),)
	$(BIN)/python -m training evaluate-edits --data $(DATA) --bundle bundles/$(NAME) --judge $(RUN)/judge.pt --out $(RUN)/evaluation
	$(BIN)/python -m export attach --bundle bundles/$(NAME) --evaluation $(RUN)/evaluation/photographs.json
endif
	$(BIN)/python -m training figures --data $(DATA) --bundle bundles/$(NAME) --out $(RUN)/figures

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Facet needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(SERVE_READY): pyproject.toml constraints.txt | $(BIN)/python
	@$(DROP_OTHER_RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME)]'
	@touch $@

$(TEST_READY): pyproject.toml constraints.txt | $(BIN)/python
	@$(DROP_OTHER_RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME),test]'
	@touch $@

$(DEV_READY): pyproject.toml constraints.txt | $(BIN)/python
	@$(DROP_OTHER_RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(RUNTIME),train,dev,ray]'
	@touch $@ $(TEST_READY)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build *.egg-info
