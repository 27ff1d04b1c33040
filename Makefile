# attune: `make run` starts the service, `make test` tests everything that can be tested here.
PORT ?= 8000
HOST := 127.0.0.1
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup run test check static format unit bench clean

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
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
