"""The environments of the rules, as far as they show without conda: pins exist, install, and have
what is imported.
"""

import ast
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

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
        "from critical_tokens.workflow import briefing, recipes, sizing\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
