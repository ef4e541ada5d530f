"""Generated parts about the library: its packages, from their code, and its registries."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import evidence

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
LIBRARY = SCRIPTS / "critical_tokens"
sys.path.insert(0, str(SCRIPTS))

from critical_tokens.decoding.distributions import DISTRIBUTIONS  # noqa: E402
from critical_tokens.engines.opening import ENGINES  # noqa: E402
from critical_tokens.objectives.registry import REGISTRY  # noqa: E402
from critical_tokens.training.token_weights import TOKEN_WEIGHTS  # noqa: E402


def _floors() -> str:
    """The packages by floor, the highest first, as a drawing in text."""
    imported = _imported()
    floors = {name: _floor(name, imported) for name in sorted(imported)}
    return "\n".join(
        f"    {floor}" + " ".join(f"{name:>16}" for name in floors if floors[name] == floor)
        for floor in range(max(floors.values()), -1, -1)
    )


def _packages() -> str:
    """A row for each package, the highest first: its floor, what it decides, what it imports."""
    imported = _imported()
    rows = []
    for package in sorted(imported, key=lambda name: (-_floor(name, imported), name)):
        text = ast.get_docstring(ast.parse((LIBRARY / package / "__init__.py").read_text(encoding="utf-8"))) or ""
        decides = re.search(r"It decides (.*?)\. (?:It|$)", " ".join(text.split()))
        if decides is None:
            raise SystemExit(f"{package}/__init__.py: no sentence begins with `It decides`")
        rows.append([
            str(_floor(package, imported)), f"`{package}`", decides[1], ", ".join(sorted(imported[package])) or "–",
        ])  # fmt: skip
    return evidence.markdown(["floor", "package", "decides", "imports"], rows, left=4)


def _imported() -> dict[str, set[str]]:
    """The other packages that each package of the library imports."""
    return {path.parent.name: _imports(path.parent) for path in LIBRARY.glob("*/__init__.py")}


def _imports(folder: Path) -> set[str]:
    """The other packages of the library that the modules of one import, anywhere in their code."""
    found: set[str] = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("critical_tokens.")} - {folder.name}


def _floor(package: str, imported: Mapping[str, set[str]]) -> int:
    """0 for a package that imports none, else one more than the highest that it imports."""
    return 1 + max((_floor(other, imported) for other in imported[package]), default=-1)


def _objectives() -> str:
    """A row for each objective: what it trains on, and its constants with their defaults."""
    rows = [
        [
            f"`{name}`",
            entry.description,
            entry.data,
            ", ".join(f"`{key}` ({constant.default:g})" for key, constant in entry.constants.items()) or "–",
        ]
        for name, entry in REGISTRY.items()
    ]
    return evidence.markdown(["objective", "what it is", "trains on", "constants (defaults)"], rows, left=4)


def _registered() -> str:
    """A row for each entry of the other registries: the key that takes it, its name, what it is."""
    keys = {
        "weights": TOKEN_WEIGHTS,
        "rollouts: replacement_distribution": DISTRIBUTIONS,
        "engine": ENGINES,
    }
    rows = [
        [f"`{key}`", f"`{name}`", entry.description] for key, entries in keys.items() for name, entry in entries.items()
    ]
    return evidence.markdown(["key", "value", "what it is"], rows, left=3)


PARTS: dict[str, Callable[[], str]] = {
    "floors": _floors,
    "packages": _packages,
    "objectives": _objectives,
    "registered": _registered,
}
