"""Checks of names and paths in the config, and the resolution of its paths.

Names of models, datasets, methods and so on become names of files and folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from critical_tokens.workflow.refusals import Refusals

Config = dict[str, Any]
SPLITS = ("train", "validation", "test")

# Characters that a path must not have: control characters, and those that Snakemake reads as
# wildcards, {…}, and as path variables, <…>.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\u2028\u2029{}<>]")
# In the path of the authors' folders, this is replaced with the name of the model.
_MODEL = "{model}"


def expand_paths(config: Config, found: Refusals) -> None:
    """Replace "~" with the home folder in all paths of a config, in place, and check the paths.

    Mistakes are paths with characters that they must not have, the home folder of an unknown user,
    and output folders that are the same or contain the working directory.
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
            # Programs would read it as a flag.
            found.add(f"{where} is {path!r}; a path must not begin with a hyphen, so write ./{path}")
        elif path.startswith("~"):
            holder[key] = _at_home(path)
            if holder[key] is None:
                found.add(f"{where} is {path!r}; there is no home folder of that name, so write the path in full")
    outputs: dict[str, str] = {}
    for name, path in config.get("pathvars", {}).items():
        other = outputs.setdefault(str(Path(path or "")), name)
        if other != name:
            found.add(f"pathvars: {name} is {path!r}, the same folder as {other}; each needs a folder of its own")
        if Path(path or "").resolve() in (Path("/"), Path.cwd(), *Path.cwd().parents):
            what = "not the working directory or a folder that contains it"
            found.add(f"pathvars: {name} is {path!r}; it must be a folder of its own, {what}")


def _at_home(path: str) -> str | None:
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        return None


def _paths(config: Config) -> Iterator[tuple[str, Config, str]]:
    """Every path of a config: its key in full, the mapping that has it, and its key there."""
    for name in config.get("pathvars", {}):
        yield f"pathvars: {name}", config["pathvars"], name
    for name, entry in config["model_registry"].items():
        for key in ("path", "tokenizer"):
            if key in entry:
                yield f"model_registry: {name}: {key}", entry, key
    for name, entry in config["dataset_registry"].items():
        for key in ("annotations", "released_pairs"):
            if key in entry:
                yield f"dataset_registry: {name}: {key}", entry, key
        for split in SPLITS:
            if "path" in entry.get(split, {}):
                yield f"dataset_registry: {name}: {split}: path", entry[split], "path"
    yield "published: table1", config["published"], "table1"


def locate_files(config: Mapping[str, Any], project: Path) -> None:
    """Resolve relative paths of inputs in place, in the working directory or else in `project`.

    So `data/models/pocket-s` is found from any working directory, and a user's own file of the same
    path is preferred.
    """
    datasets = config["dataset_registry"].values()
    splits = [entry[split] for entry in datasets for split in ("train", "validation", "test") if split in entry]
    holders = [(entry, "path") for entry in (*config["model_registry"].values(), *splits)]
    holders += [(entry, "tokenizer") for entry in config["model_registry"].values()]
    holders += [(entry, key) for entry in datasets for key in ("annotations", "released_pairs")]
    for entry, key in (*holders, (config["published"], "table1")):
        if key in entry and not Path(entry[key]).exists() and (project / entry[key]).exists():
            entry[key] = str(project / entry[key])


# The workflow's own folders: in <results>, in a cell, and those of presets. The name `base` is also
# reserved, because methods start from it.
_FOLDERS = (
    "base", "checked", "critical", "data", "hub", "models", "packages", "positive", "negative", "pretrained",
    "released", "replacements", "rollouts", "shards", "smoke", "studies",
)  # fmt: skip
# The reserved names of other registries: the workflow's own studies, the search over learning
# rates, and the contrastive scores without a variant.
_RESERVED = {
    "studies: comparisons": ("agreement", "critical_rule", "replacement", "temperatures"),
    "sweeps": ("tuning",),
    "variants": ("default",),
}
_REGISTRIES = ("model_registry", "dataset_registry", "method_registry", "variants", "sweeps")
# Names must not end like files, because tables and figures lie beside the folders that they name.
_ENDINGS = (".csv", ".json", ".log", ".md", ".parquet", ".pdf", ".png", ".safetensors", ".tar", ".tsv")


def check_names(config: Mapping[str, Any], found: Refusals) -> None:
    """Check that no registered name is reserved, ends like a file, or collides with another."""
    registries = {registry: config[registry] for registry in _REGISTRIES}
    registries["studies: comparisons"] = config["studies"]["comparisons"]
    for registry, entries in registries.items():
        reserved = _RESERVED.get(registry, _FOLDERS)
        folded: dict[str, str] = {}
        for name in entries:
            where = f"{registry}: {name!r}"
            if name.lower() in reserved:
                found.add(f"{where} is a reserved name; reserved are {', '.join(reserved)}")
            if name.lower().endswith(_ENDINGS):
                found.add(f"{where} ends like a file name ({', '.join(_ENDINGS)}); give it another name")
            if registry == "method_registry" and name.startswith(("positive-", "negative-")):
                found.add(f"{where} begins like the contrastive models of a variant; give it another name")
            other = folded.setdefault(name.lower(), name)
            if other != name:
                what = "which some file systems do not distinguish; rename one of them"
                found.add(f"{where} and {other!r} differ only in capital letters, {what}")
