# attune: `make run` starts the service, `make test` tests everything that can be tested here.
PORT ?= 8000
HOST := 127.0.0.1
VENV := .venv
VLLM_VENV := .venv-vllm
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup run test test-vllm check static format unit bench clean

setup: $(VENV)/.serve

# The processor-only build of torch is enough; TORCH_OPTIONS may tell pip where to look for it.
$(VENV)/.serve: pyproject.toml
	@bash deploy/make_venv.sh $(VENV)
	@echo "Installing attune and its libraries (once, some minutes) …"
	@$(PIP) $(TORCH_OPTIONS) torch==2.13.0
	@$(PIP) --editable '.[engine]'
	@touch $@

$(VENV)/.test: $(VENV)/.serve
	@echo "Installing test tools …"
	@$(PIP) --editable '.[test]'
	@touch $@

run: $(VENV)/.serve
	@$(BIN)/attune serve --host $(HOST) --port $(PORT)

test: $(VENV)/.test
	@bash tests/with_postgres.sh $(BIN)/python -m pytest tests

# vLLM brings its own torch and needs an environment of its own. Where it has no build, that is said loudly, and is a
# failure in continuous integration.
$(VLLM_VENV)/.vllm: pyproject.toml deploy/make_vllm_venv.sh
	@echo "Installing vLLM for a processor, with attune (once, some minutes) …"
	@bash deploy/make_vllm_venv.sh $(VLLM_VENV) && touch $@

test-vllm:
	@if $(MAKE) --no-print-directory $(VLLM_VENV)/.vllm; then \
	  $(VLLM_VENV)/bin/python -m pytest tests/vllm; \
	else \
	  echo "NOT TESTED: the vLLM backend, since vLLM could not be installed here (see above)." >&2; \
	  [ "$$CI" != true ]; \
	fi

check: static unit

static: $(VENV)/.test
	@$(BIN)/ruff format --check app tests benchmarks migrations
	@$(BIN)/ruff check app tests benchmarks migrations
	@$(BIN)/mypy
	@$(BIN)/lint-imports

unit: $(VENV)/.test
	@$(BIN)/python -m pytest tests/unit -q

format: $(VENV)/.test
	@$(BIN)/ruff format app tests benchmarks migrations
	@$(BIN)/ruff check --fix app tests benchmarks migrations

bench: $(VENV)/.test
	@$(BIN)/python benchmarks/decoding.py
	@$(BIN)/python benchmarks/preferences.py
	@$(BIN)/python benchmarks/service.py

clean:
	rm -rf $(VENV) $(VLLM_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
