"""Versions of programs: hashes of their code, which change when a result can change."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

_SCRIPTS = Path(__file__).resolve().parents[2]
_PACKAGE = "critical_tokens"


@lru_cache
def code_version(program: str) -> str:
    """A hash of scripts/`program`.py and of all library modules that it imports, transitively.

    Comments, docstrings and layout do not count. So a cosmetic edit or a fresh clone reruns
    nothing, and an edit that can change a result reruns the programs that import the module.
    Snakemake sees such an edit, because rules have the hash as an entry of `params:`.
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
    """The syntax tree of a module without docstrings, as text."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and _has_docstring(
            node.body
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


def _has_docstring(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


@lru_cache
def _imports(path: Path) -> frozenset[Path]:
    """The library modules that a module imports, also those imported inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    found: set[Path] = set()
    for name in names:
        if name.split(".")[0] == _PACKAGE:
            base = _SCRIPTS.joinpath(*name.split("."))
            found.update(p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file())
    return frozenset(found)
