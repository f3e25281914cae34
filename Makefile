# Every command works as the first one on a machine with Python >= 3.11 and make, and is quick the second time.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
OPENAPI := service/transports/rest/openapi.json

.PHONY: demo test check lint types imports generated generate format parity bench evaluate clean

demo: .venv/runtime ## serve the embedded model on 127.0.0.1:8000
	$(BIN)/paliserve serve

test: .venv/dev ## all tests
	$(BIN)/python -m pytest

check: lint types imports generated ## everything that needs no test run

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

imports: .venv/dev
	$(BIN)/lint-imports

generated: .venv/dev ## the OpenAPI document must be what the code makes
	$(BIN)/python -m service.transports.rest.openapi | diff - $(OPENAPI)

generate: .venv/dev ## write what is generated
	$(BIN)/python -m service.transports.rest.openapi > $(OPENAPI)

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

parity: .venv/dev ## tokens against generate(), counted
	$(BIN)/python -m pytest -q -s tests/model/test_runner_parity.py tests/model/test_embedded_parity.py | grep -o 'parity .*'

bench: .venv/dev ## the engine against generate(), one by one; results in load_tests/results
	$(BIN)/python -m load_tests.engine_against_generate

evaluate: .venv/dev ## the embedded model's table of figures
	$(BIN)/python -m service.demo.evaluate

.venv/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found as python3."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/runtime: .venv/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ .venv/runtime

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
