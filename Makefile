# make              create the environment, then build Table 1, the figures and their cost
# make test         the same environment, then all tests but those of vLLM and Slurm
# make vllm         create an environment for vLLM, which `snakemake` then uses for models with
#                   `engine: vllm`: the CUDA build if nvidia-smi lists a GPU, else the CPU build of
#                   the same version (GPU=1 and GPU= choose instead)
# make test-vllm    the same environment, then the tests of that engine
# make test-slurm   the smoke preset on a Slurm cluster that the tests start on this machine
#                   (installs Debian packages if needed)
# make check        lint, types and formats
# make bench        compare the cost of rollouts with the released procedure, generate, vLLM and TRL
# make docs         the generated parts of README.md and docs/, from the last results
# make clean        remove everything that was built, except the environment

PYTHON ?= python3.11
VENV := .venv
VLLM := .venv-vllm
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU ' | grep -v '^0$$')
# The CUDA build's pins are those of the environment for conda; pip resolves what they depend on.
VLLM_CUDA = $(shell sed -n 's/^ *- \(.*==.*\)/\1/p' envs/vllm.yaml) $(shell grep '^pytest' envs/requirements-dev.txt)
VLLM_CPU = --no-deps -r envs/requirements-vllm.txt
TRL := .trl
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/installed
INSTALL_SLURM := apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
export PATH := $(BIN):$(PATH)
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: all environment vllm test test-vllm test-slurm bench check docs clean

all: environment
	snakemake

environment: $(INSTALLED)

$(INSTALLED): envs/requirements.txt envs/requirements-dev.txt envs/requirements-shots.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^torch==' envs/requirements.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements.txt -r envs/requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r envs/requirements-shots.txt
	touch $@

# Two processes run one file of tests each, so that the fixtures of a file are built only once.
test: environment
	pytest -n 2 --dist loadfile

vllm: $(VLLM)/installed

$(VLLM)/installed: envs/requirements-vllm.txt envs/vllm.yaml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check $(if $(GPU),$(VLLM_CUDA),$(VLLM_CPU))
	touch $@

test-vllm: vllm
	$(VLLM)/bin/python -m pytest tests/test_vllm.py

# TRL is used by `make bench` only. It runs with the packages of the environment, from a folder of
# its own.
$(TRL)/installed: envs/requirements-trl.txt $(INSTALLED)
	rm -rf $(TRL)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(TRL) -r envs/requirements-trl.txt
	touch $@

test-slurm: environment
	command -v slurmctld >/dev/null || $(INSTALL_SLURM) || (apt-get update && $(INSTALL_SLURM))
	pytest -m slurm tests/test_slurm.py

bench: environment vllm $(TRL)/installed
	PYTHONPATH=scripts OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 python docs/bench/run.py $(if $(PARTS),--parts $(PARTS))

check: environment
	ruff check
	ruff format --check
	mypy
	snakefmt --check Snakefile rules
	snakemake --lint

docs: environment
	python docs/generate.py

clean:
	rm -rf results figures logs benchmarks .snakemake
