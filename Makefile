# make install into .venv; the others do it too where it is missing
# make demo    install, make the sample inputs, run everything on the CPU, write results/report.html
# make pandaset-index  install, write the clip indices of the driving logs (config: driving.data_root)
# make test    install, run all CPU tests; with Slurm installed, also those on a small cluster on this machine
# make test-slurm  only those on the cluster, with the long ones
# make test-faults  a sample of kills, full disks, … in every area (some need root, to mount small disks); SEED=2 takes
#              another sample, FULL=1 all of them
# make lint    formatters, linters, type checker
# make bench   measure; tables in docs/benchmarks are its output (make bench-gpu: those of a GPU; make
#              bench-slurm: what jobs cost on Slurm)
# AREA=captures runs one area of the demo; TORCH=cpu or TORCH=cuda asks pip for that build of torch.

SHELL := /bin/bash
PYTHON ?= python3
AREA ?= all
TORCH ?=
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# `===` takes the build without a local version, which is the CUDA one; `+cpu` is the other.
TORCH_PIN := $(shell sed -n 's/^torch==//p' envs/core.txt)
TORCH_REQUIREMENT_ := torch==$(TORCH_PIN)
TORCH_REQUIREMENT_cpu := torch==$(TORCH_PIN)+cpu
TORCH_REQUIREMENT_cuda := torch===$(TORCH_PIN)
$(if $(TORCH_REQUIREMENT_$(TORCH)),,$(error TORCH is cpu or cuda, not $(TORCH)))

.PHONY: install demo pandaset-index test test-faults test-slurm lint format generate bench bench-gpu bench-slurm pins clean FORCE
.DEFAULT_GOAL := demo

# One stamp per build of torch; without TORCH the build that is there stays.
INSTALLED := $(if $(TORCH),.venv/installed-$(TORCH),$(firstword $(wildcard .venv/installed-*) .venv/installed-any))

$(INSTALLED): envs/core.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "splatdag needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check '$(TORCH_REQUIREMENT_$(TORCH))'
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -r envs/core.txt | grep -v 'already satisfied'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	$(BIN)/python -m splatdag.workflow.user_cache
	rm -f .venv/installed-*
	touch $@

install: $(INSTALLED)

demo: results/report.html
	@echo 'Look at results/report.html (metrics, curves, pictures) and results/compare/index.html (all runs side by side).'
	@echo 'Open a run in the Rerun viewer: $(BIN)/rerun results/captures/room/single/rerun/capture.rrd'
	@echo 'The splats are results/captures/*/*/splat.ply; $(BIN)/snakemake status says what ran; docs/captures.md says how to use your own photos.'

# A scene that fails costs neither the others nor the report, which names it; make ends with the exit code.
results/report.html: $(INSTALLED) FORCE
	@$(BIN)/snakemake $(AREA); code=$$?; \
	$(BIN)/snakemake compare --quiet all || exit 1; \
	if [ ! -f $@ ] || [ results/compare/index.html -nt $@ ]; then \
		$(BIN)/snakemake compare $(AREA) --report $@ --quiet all || exit 1; \
	fi; \
	if [ $$code -ne 0 ]; then echo 'Some scenes failed; results/compare/index.html names them with their reasons.'; fi; \
	exit $$code

FORCE:

pandaset-index: $(INSTALLED)
	$(BIN)/snakemake index_pandaset

test: $(INSTALLED)
	$(BIN)/pytest -n 2 --ignore tests/slurm
	$(BIN)/pytest tests/slurm

# each worker takes jobs of its own; make hands FULL and SEED on to it
test-faults: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist load -m faults tests/faults

# everything on the test cluster, which needs Slurm's Debian packages (tests/slurm/box.py) and root
test-slurm: $(INSTALLED)
	REQUIRE_SLURM=1 $(BIN)/pytest tests/slurm -m 'not gpu'

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

# DATA=folder of a COLMAP dataset such as fox: also what training and poses reach on it
bench: $(INSTALLED)
	$(BIN)/python bench/planning.py
	$(BIN)/python bench/rasterizer.py $(if $(SKETCH),--sketch $(SKETCH))
	$(BIN)/python bench/upload.py
	$(BIN)/python bench/recordings.py
	$(BIN)/python bench/driving.py
	@if [ -n "$(DATA)" ]; then $(BIN)/python bench/captures.py --data-dir "$(DATA)" --photos-alone; \
	else echo 'DATA=<COLMAP dataset> measures training and poses too'; fi

# DATA=folder of a COLMAP dataset: what trainings reach on a GPU; MORE="…": arguments of bench/gpu.py
bench-gpu: $(INSTALLED)
	@if [ -z "$(DATA)" ]; then echo 'DATA is missing; make bench-gpu DATA=<COLMAP dataset>'; exit 2; fi
	$(BIN)/python bench/gpu.py --data-dir "$(DATA)" $(MORE)

# 200 jobs on the test cluster, which needs Slurm's Debian packages (tests/slurm/box.py) and root
bench-slurm: $(INSTALLED)
	$(BIN)/python bench/slurm.py

# the pins of everything that the first part of envs/core.txt pulls in, from what is installed; then the hashes of all
# of them, which needs uv
pins: $(INSTALLED)
	$(BIN)/python -m splatdag.commands.generate --pins
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		envs/core.txt --output-file envs/core.lock.partial.txt
	sed '1i # Every package with the hashes of its files, for pip install --require-hashes; from envs/core.txt by `make pins`.' \
		envs/core.lock.partial.txt > envs/core.lock.txt
	rm envs/core.lock.partial.txt

# what is generated: graphs of rules in docs/developing.md, the config's schema and tables, envs/core.yaml
generate: $(INSTALLED)
	$(BIN)/python -m splatdag.commands.generate

# asks, since trained results are not made again in minutes; without a terminal nothing is removed
clean:
	@read -r -p 'Remove results, logs, benchmarks and .snakemake, with all that was trained here? [y/N] ' answer; \
	if [ "$$answer" = y ]; then rm -rf results logs benchmarks .snakemake; else echo 'nothing is removed'; exit 1; fi
