"""Names and paths in the config: names become files and folders, and paths are found from any
working directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from critical_tokens.workflow.refusals import Refusals

Config = dict[str, Any]
SPLITS = ("train", "validation", "test")

# Snakemake reads {…} as a wildcard and <…> as a path variable; programs read a leading hyphen as a
# flag.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\u2028\u2029{}<>]")
# What stands in the authors' folders for the model's name.
_MODEL = "{model}"


def expand_paths(config: Config, found: Refusals) -> None:
    """Write home folders (~) out in all path keys of a config, in place.

    Mistakes are characters that a path cannot have, the home of an unknown user, and output folders
    that are the same.
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
            found.add(
                f"pathvars: {name} is {path!r}; it must be a folder of its own, not one around the working directory"
            )


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


def locate_files(config: Mapping[str, Any], project: Path) -> None:
    """Let the config's relative paths that the working directory lacks name the project's own
    files, in place.

    So `data/models/pocket-s` is found from any working directory, and a file of the user's own
    comes first.
    """
    datasets = config["dataset_registry"].values()
    splits = [entry[split] for entry in datasets for split in ("train", "validation", "test") if split in entry]
    holders = [(entry, "path") for entry in (*config["model_registry"].values(), *splits)]
    holders += [(entry, key) for entry in datasets for key in ("annotations", "released_pairs")]
    for entry, key in (*holders, (config["published"], "table1")):
        if key in entry and not Path(entry[key]).exists() and (project / entry[key]).exists():
            entry[key] = str(project / entry[key])


# Folders of the workflow's own: of <results>, of a cell, and where presets put theirs; `base` is
# where methods start.
_FOLDERS = (
    "base", "checked", "critical", "data", "hub", "packages", "positive", "negative", "pretrained", "released", "replacements",
    "rollouts", "shards", "smoke", "studies",
)  # fmt: skip
# Other names that are taken, by registry: of studies, of the search over learning rates, of the
# scores without a variant.
_TAKEN = {
    "studies: comparisons": ("agreement", "critical_rule", "replacement", "temperatures"),
    "sweeps": ("tuning",),
    "variants": ("default",),
}
_REGISTRIES = ("model_registry", "dataset_registry", "method_registry", "variants", "sweeps")
# Tables and figures lie beside the folders of models and methods.
_ENDINGS = (".csv", ".json", ".log", ".md", ".parquet", ".pdf", ".png", ".safetensors", ".tar", ".tsv")


def check_names(config: Mapping[str, Any], found: Refusals) -> None:
    """Every registered name is free, and different from the others of its registry on every disk."""
    registries = {registry: config[registry] for registry in _REGISTRIES}
    registries["studies: comparisons"] = config["studies"]["comparisons"]
    for registry, entries in registries.items():
        taken = _TAKEN.get(registry, _FOLDERS)
        folded: dict[str, str] = {}
        for name in entries:
            where = f"{registry}: {name!r}"
            if name.lower() in taken:
                found.add(f"{where} is a name of the workflow's own; taken are {', '.join(taken)}")
            if name.lower().endswith(_ENDINGS):
                found.add(f"{where} ends like a file ({', '.join(_ENDINGS)}); give it another name")
            if registry == "method_registry" and name.startswith(("positive-", "negative-")):
                found.add(f"{where} begins like the contrastive models of a variant; give it another name")
            other = folded.setdefault(name.lower(), name)
            if other != name:
                found.add(f"{where} and {other!r} differ in capital letters only, which some disks do not tell apart")
