# The same few words everywhere. The environment lives in .venv, inside the checkout.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo serve test lint fix bench docs image up down clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into .venv (torch alone is a few gigabytes) ..."
	@date +%s > .install-began
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@echo $$(( $$(date +%s) - $$(cat .install-began) )) > .venv/.install-seconds; rm .install-began
	@touch $(STAMP)

demo: install
	$(BIN)/swaprec demo

serve: install
	$(BIN)/swaprec serve

test: install
	OMP_NUM_THREADS=1 $(BIN)/pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/python -m swaprec.reference

bench: install
	$(BIN)/python -m benchmarks.serve

image:
	docker compose build

up:
	docker compose up --detach --build --wait

down:
	docker compose down

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
