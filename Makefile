# The same few words everywhere. The environment lives in .venv, inside the checkout.
PYTHON ?= python3.11
# TORCH=cpu takes torch's build without CUDA from its own index, a fifth of the size: make demo TORCH=cpu
TORCH ?=
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo serve test lint fix bench docs image up down clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into .venv (torch alone is a few gigabytes) ..."
	@date +%s > .install-began
	$(PYTHON) -m venv .venv
	@if [ "$(TORCH)" = cpu ]; then \
	  $(BIN)/pip install --quiet --index-url $(TORCH_CPU_INDEX) --constraint constraints.txt torch torchvision || { \
	    echo "torch's CPU index, $(TORCH_CPU_INDEX), cannot be reached: without TORCH=cpu torch comes from PyPI (5 GB)"; \
	    exit 1; \
	  }; \
	fi
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@echo $$(( $$(date +%s) - $$(cat .install-began) )) > .venv/.install-seconds; rm .install-began
	@touch $(STAMP)

demo: install
	$(BIN)/swaprec demo

serve: install
	$(BIN)/swaprec serve

test: install
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile

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

# The seed ends by itself, which --wait would take for a failure.
up:
	docker compose up --detach --build --wait swaprec
	docker compose up --detach

down:
	docker compose down

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
