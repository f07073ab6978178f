# The same few words everywhere. The environment lives in .venv, inside the checkout.
PYTHON ?= python3.11
# TORCH=cpu takes torch's build without CUDA from its own index, a fifth of the size: make demo TORCH=cpu
TORCH ?=
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install lock demo serve test coverage lint fix bench docs image up down clean

install: $(STAMP)

# requirements.lock has the digest of every archive. pip checks digests of all packages or of none, and those of the CPU
# index are others: TORCH=cpu takes the same versions from constraints.txt, unchecked.
$(STAMP): pyproject.toml requirements.lock constraints.txt
	@echo "installing into .venv (torch alone is a few gigabytes) ..."
	@date +%s > .install-began
	$(PYTHON) -m venv .venv
	@if [ "$(TORCH)" = cpu ]; then \
	  $(BIN)/pip install --quiet --index-url $(TORCH_CPU_INDEX) --constraint constraints.txt torch torchvision || { \
	    echo "torch's CPU index, $(TORCH_CPU_INDEX), cannot be reached: without TORCH=cpu torch comes from PyPI (5 GB)"; \
	    exit 1; \
	  }; \
	  $(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"; \
	else \
	  $(BIN)/pip install --quiet --no-deps --require-hashes --requirement requirements.lock \
	    && $(BIN)/pip install --quiet --no-deps --editable .; \
	fi
	@echo $$(( $$(date +%s) - $$(cat .install-began) )) > .venv/.install-seconds; rm .install-began
	@touch $(STAMP)

# After a change of pyproject.toml: pins stay as they are where they can. UPGRADE=1 takes the newest versions.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
	  $(if $(UPGRADE),--upgrade) --output-file requirements.lock
	@echo "# requirements.lock without its digests; make lock writes both." > constraints.txt
	sed --quiet 's/^\([a-z].*==.*\) \\$$/\1/p' requirements.lock >> constraints.txt

demo: install
	$(BIN)/swaprec demo

serve: install
	$(BIN)/swaprec serve

test: install
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# All tests under coverage, in more time than make test; fails below the floor in pyproject.toml.
coverage: install
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry .

fix: install
	$(BIN)/python -m tools.generate_client
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
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build *.egg-info
