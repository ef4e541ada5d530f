"""Paths in the config: home folders are named in full, and what no path of a rule can hold is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from critical_tokens.configuration.refusals import Refusals

Config = dict[str, Any]
SPLITS = ("train", "validation", "test")

# Snakemake reads {…} as a wildcard and <…> as a path variable; programs read a leading hyphen as a flag.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\u2028\u2029{}<>]")
# What stands in the authors' folders for the model's name.
_MODEL = "{model}"


def expand(config: Config, found: Refusals) -> None:
    """Write home folders (~) out in all path keys of a config, in place.

    Mistakes are characters that a path cannot have, the home of an unknown user, and output folders that are the same.
    """
    for where, holder, key in _paths(config):
        path = holder[key]
        plain = path.replace(_MODEL, "") if key == "released_pairs" else path
        strange = _FORBIDDEN.search(plain)
        if not path or path != path.strip():
            found.add(f"{where} is {path!r}; a path must not be empty, nor begin or end with a blank")
        elif strange:
            found.add(f"{where} is {path!r}; a path must not have {strange[0]!r} in it")
        elif path.startswith("-"):
            found.add(f"{where} is {path!r}; a path must not begin with a hyphen, write ./{path}")
        elif path.startswith("~"):
            holder[key] = _at_home(path)
            if holder[key] is None:
                found.add(f"{where} is {path!r}; there is no home folder of that name, write the path in full")
    outputs: dict[str, str] = {}
    for name, path in config.get("pathvars", {}).items():
        other = outputs.setdefault(str(Path(path or "")), name)
        if other != name:
            found.add(f"pathvars: {name} is {path!r}, as {other} is; each needs a folder of its own")
        if Path(path or "").resolve() in (Path("/"), Path.cwd(), *Path.cwd().parents):
            found.add(f"pathvars: {name} is {path!r}; it must be a folder of its own, not one around the working directory")


def _at_home(path: str) -> str | None:
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        return None


def _paths(config: Config) -> Iterator[tuple[str, Config, str]]:
    """Every path of a config: how its key is called, the mapping that holds it, and the last key."""
    for name in config.get("pathvars", {}):
        yield f"pathvars: {name}", config["pathvars"], name
    for name, entry in config["model_registry"].items():
        yield f"model_registry: {name}: path", entry, "path"
    for name, entry in config["dataset_registry"].items():
        for key in ("annotations", "released_pairs"):
            if key in entry:
                yield f"dataset_registry: {name}: {key}", entry, key
        for split in SPLITS:
            if "path" in entry.get(split, {}):
                yield f"dataset_registry: {name}: {split}: path", entry[split], "path"
    yield "published: table1", config["published"], "table1"
