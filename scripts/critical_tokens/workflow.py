"""What the Snakemake rules need from the library: versions of programs, command-line flags, checks of the config."""

from __future__ import annotations

import ast
import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from critical_tokens import sizing

_SCRIPTS = Path(__file__).resolve().parent.parent
_PACKAGE = "critical_tokens"


class ConfigError(ValueError):
    """A config that names something that does not exist, or does not fit together."""


@lru_cache
def code_version(program: str) -> str:
    """A hash of scripts/`program`.py and of all library modules that it imports, transitively.

    Comments, docstrings and layout do not count, so a cosmetic edit or a fresh clone reruns nothing, and an edit that can
    change an answer reruns the programs that import it. As a `params:` entry it makes Snakemake see such edits.
    """
    pending, seen = [_SCRIPTS / f"{program}.py"], set()
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending.extend(_imports(path))
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(f"{path.relative_to(_SCRIPTS)}\n{_essence(path)}\n".encode())
    return digest.hexdigest()[:16]


@lru_cache
def _essence(path: Path) -> str:
    """The syntax tree of a module without docstrings."""
    tree = ast.parse(path.read_text(), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and _has_docstring(node.body):
            node.body = node.body[1:]
    return ast.dump(tree)


def _has_docstring(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


@lru_cache
def _imports(path: Path) -> frozenset[Path]:
    """Library modules that a module imports anywhere, those in function bodies included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    found = set()
    for name in names:
        if name.split(".")[0] == _PACKAGE:
            base = _SCRIPTS.joinpath(*name.split("."))
            found.update(p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file())
    return frozenset(found)


def flags(**settings: Any) -> str:
    """Settings as quoted command-line flags in the given order: top_p=0.9 is "--top-p 0.9"; None is left out."""
    words: list[str] = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


def on_hub(path: str) -> bool:
    """Whether a model's path names a hub repository: owner/name, and no folder of that name."""
    return bool(re.fullmatch(r"[\w.-]*\w/[\w.-]+", path)) and not Path(path).is_dir()


def visible_gpus() -> int:
    """NVIDIA GPUs of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def check_config(config: Mapping[str, Any]) -> None:
    """Checks that no schema can express. Raises ConfigError naming the key, the value and what is allowed."""
    registries = {"models": "model_registry", "datasets": "dataset_registry", "methods": "method_registry"}
    for selector, registry in registries.items():
        for name in config[selector]:
            _require(name, config[registry], selector)
    for name, entry in config["method_registry"].items():
        _require_start(name, config["method_registry"], f"method_registry: {name}: start")
        if entry["objective"] == "none" and entry["start"] != "base":
            raise ConfigError(f"method_registry: {name}: start is {entry['start']!r}, an untrained method starts from base")
    for name, entry in config["model_registry"].items():
        for dataset in entry.get("temperatures", {}):
            _require(dataset, config["dataset_registry"], f"model_registry: {name}: temperatures")
        if on_hub(entry["path"]) and "parameters" not in entry:
            raise ConfigError(f"model_registry: {name}: parameters is missing; GPUs and memory of its jobs follow from it")
    hardware = sizing.hardware_of(config)
    unfit = [line for name in config["models"] for line in sizing.misfits(name, config["model_registry"][name], hardware)]
    if unfit:
        raise ConfigError("\n".join(unfit))
    for name, entry in config["dataset_registry"].items():
        for split in ("train", "validation", "test"):
            source = entry.get(split)
            if source and not {"world", "path", "hub"} & set(source):
                raise ConfigError(f"dataset_registry: {name}: {split} names no source; give one of world, path, hub")
    for name in config["tuning"]["methods"]:
        _require(name, config["method_registry"], "tuning: methods")
        if config["method_registry"][name]["objective"] == "none":
            raise ConfigError(f"tuning: methods has {name!r}, which trains nothing")
    for key, registry in registries.items():
        for name in config["controls"][key]:
            _require(name, config[registry], f"controls: {key}")
    for name in config["models"]:
        processes = config["model_registry"][name].get("processes", 1)
        sizes = {"contrast": config["contrast"]["batch_size"]}
        for method in config["methods"]:
            sizes[f"method {method}"] = config["method_registry"][method].get("batch_size", config["alignment"]["batch_size"])
        for key, size in sizes.items():
            if size % processes:
                raise ConfigError(f"{key}: batch_size is {size}, must be a multiple of the {processes} processes of {name}")
    for name, entry in config["method_registry"].items():
        if entry.get("weights") == "base" and entry["start"] != "base":
            raise ConfigError(f"method_registry: {name}: weights of kind base are those of a method that starts from base")
    figures = config["figures"]
    _require(figures["example"]["model"], config["model_registry"], "figures: example: model")
    _require(figures["example"]["dataset"], config["dataset_registry"], "figures: example: dataset")
    for name in figures["log_probabilities"]:
        _require(name, config["method_registry"], "figures: log_probabilities")
        if config["method_registry"][name]["objective"] in ("none", "nll"):
            raise ConfigError(f"figures: log_probabilities is {name!r}, which trains on no pairs")


def _require(name: str, registry: Mapping[str, Any], key: str) -> None:
    if name not in registry:
        raise ConfigError(f"{key}: {name!r} is unknown; registered are {', '.join(sorted(registry))}")


def _require_start(name: str, registry: Mapping[str, Any], key: str) -> None:
    seen = [name]
    while (start := registry[seen[-1]]["start"]) != "base":
        if start not in registry:
            raise ConfigError(f"{key}: {start!r} is unknown; allowed are base and the methods {', '.join(sorted(registry))}")
        if start in seen:
            raise ConfigError(f"{key}: {' -> '.join([*seen, start])} never reaches base")
        seen.append(start)
