"""What the Snakemake rules need from the library: versions of programs, command-line flags, what stands where."""

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

_SCRIPTS = Path(__file__).resolve().parent.parent
_PACKAGE = "critical_tokens"


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
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
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


def locate_files(config: Mapping[str, Any], project: Path) -> None:
    """Let the config's relative paths that the working directory lacks name the project's own files, in place.

    So `data/models/pocket-s` is found from any working directory, and a file of the user's own comes first.
    """
    datasets = config["dataset_registry"].values()
    splits = [entry[split] for entry in datasets for split in ("train", "validation", "test") if split in entry]
    holders = [(entry, "path") for entry in (*config["model_registry"].values(), *splits)]
    holders += [(entry, key) for entry in datasets for key in ("annotations", "released_pairs")]
    for entry, key in (*holders, (config["published"], "table1")):
        if key in entry and not Path(entry[key]).exists() and (project / entry[key]).exists():
            entry[key] = str(project / entry[key])


def on_hub(path: str) -> bool:
    """Whether a model's path names a hub repository: owner/name, and no folder of that name."""
    return bool(re.fullmatch(r"[\w.-]*\w/[\w.-]+", path)) and not Path(path).is_dir()


def visible_gpus() -> int:
    """NVIDIA GPUs of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
