"""Worked examples for few-shot prompts, from a dataset or from the task definitions of lm-eval.

The examples in the paper's prompts (8 for GSM8K, Wei et al. 2022; 4 for MATH, Lewkowycz et al.
2022) are the work of others, so this repository has no copy of them. They are read from the
installed package lm-eval at run time, without importing or running any of its code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from critical_tokens.core import records
from critical_tokens.data.prompts import Shot

# The file of the package that holds the examples of each task.
TASKS = {"gsm8k_cot": "lm_eval/tasks/gsm8k/gsm8k-cot.yaml", "minerva_math": "lm_eval/tasks/minerva_math/utils.py"}


class ShotsError(records.Failure):
    """Worked examples are missing, or fewer than were asked for."""


def from_task(task: str) -> list[Shot]:
    """The worked examples of a task of lm-eval, in the order of its file.

    Raises ShotsError where lm-eval is not installed, or where the task has no worked examples.
    """
    import yaml

    path = _package_file(TASKS[task])
    try:
        found = _samples(path)
    except (yaml.YAMLError, SyntaxError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShotsError(
            f"{path}: cannot be read ({error}); envs/requirements-shots.txt names a version that can"
        ) from error
    if not found or not all(isinstance(part, str) for shot in found for part in shot):
        raise ShotsError(f"{path}: has no worked examples of the form that version 0.4.13 has")
    return [Shot(*shot) for shot in found]


def _samples(path: Path) -> list[tuple[Any, Any]]:
    """The questions and answers in the file of a task."""
    import yaml

    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        samples = yaml.load(text, Loader=_plain_loader(yaml))["fewshot_config"]["samples"]  # noqa: S506 (a SafeLoader)
        return [(s.get("question"), s.get("target")) for s in samples]
    return [(s.get("problem"), s.get("solution")) for s in _returned_list(text, "list_fewshot_samples", path)]


def _package_file(name: str) -> Path:
    try:
        package = metadata.distribution("lm_eval")
    except metadata.PackageNotFoundError as error:
        raise ShotsError("lm-eval is not installed: `pip install --no-deps -r envs/requirements-shots.txt`") from error
    path = Path(str(package.locate_file(name)))
    if not path.is_file():
        raise ShotsError(
            f"lm-eval {package.version} has no {name}; envs/requirements-shots.txt names a version that has"
        )
    return path


def _plain_loader(yaml: Any) -> type:
    """A YAML loader for plain values; lm-eval's own tags, which name functions, become None."""
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    return loader


def _returned_list(source: str, function: str, path: Path) -> list[dict[str, Any]]:
    """The list of literals that a function in a Python file returns, read without running it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            last = node.body[-1]
            if isinstance(last, ast.Return) and last.value is not None:
                return ast.literal_eval(last.value)
    raise ShotsError(f"{path}: has no {function} that returns a list")


def from_problems(problems: Iterable[records.Row], path: Path) -> list[Shot]:
    """The problems as worked examples; ShotsError, naming `path`, for one without a solution."""
    found = []
    for problem in problems:
        if not problem["solution"]:
            raise ShotsError(f"{path}: problem {problem['problem_id']} has no worked solution")
        found.append(Shot(problem["question"], problem["solution"]))
    return found


def write(path: Path, found: Iterable[Shot], count: int) -> None:
    """Write the first `count` examples as JSON; ShotsError where there are fewer."""
    found = list(found)[:count]
    if len(found) < count:
        raise ShotsError(f"{path}: {count} shots are asked for, there are {len(found)}")
    records.write_json(path, [shot._asdict() for shot in found])


def read(path: Path) -> tuple[Shot, ...]:
    """The examples in a file that `write` wrote; ArtifactError for any other file."""
    try:
        return tuple(Shot(row["question"], row["answer"]) for row in records.read_json(path))
    except (KeyError, TypeError) as error:
        raise records.ArtifactError(f"{path}: is no list of worked examples") from error
