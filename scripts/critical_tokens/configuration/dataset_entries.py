"""Checks of the registered datasets: sources of splits, numbers of problems, worked examples."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from critical_tokens.configuration.files import Layer
from critical_tokens.configuration.names import SPLITS
from critical_tokens.data import authors_files
from critical_tokens.workflow.refusals import ConfigError, Refusals

Config = Mapping[str, Any]

SOURCES = ("world", "path", "hub")
# The style of prompts and answers of each world.
_WORLDS = {"pocket-gsm": "gsm8k", "pocket-math": "math"}
# The keys of a split that are read, by its source.
_COLUMNS = ("question", "solution", "answer", "unanswered")
_READ = {
    "world": ("world", "problems", "seed"),
    "path": ("path", "problems", "rows", *_COLUMNS),
    "hub": ("hub", "subset", "hub_split", "revision", "problems", "rows", *_COLUMNS),
}


def check_sources(layers: Sequence[Layer], found: Refusals) -> None:
    """Check that no file names two sources for one split.

    Two files may name different sources, because a path in a user's file overrides the hub id in
    config.yaml.
    """
    for name, content in layers:
        for where, source in _written_splits(content):
            named = [key for key in SOURCES if source.get(key) is not None]
            if len(named) > 1:
                found.add(f"{name}: {where} has {len(named)} sources, {' and '.join(named)}; give only one of them")


def _written_splits(content: Config) -> Iterator[tuple[str, Config]]:
    registry = content.get("dataset_registry")
    for name, entry in registry.items() if isinstance(registry, Mapping) else ():
        for split in SPLITS:
            source = entry.get(split) if isinstance(entry, Mapping) else None
            if isinstance(source, Mapping):
                yield f"dataset_registry: {name}: {split}", source


def check_datasets(config: Config, found: Refusals) -> None:
    """Check the entries of all datasets, and that datasets in use have train and test problems."""
    registry = config["dataset_registry"]
    for name, entry in registry.items():
        for split in SPLITS:
            if split in entry:
                for what in _source_mistakes(entry[split], entry["style"]):
                    found.add(f"dataset_registry: {name}: {split} {what}")
        for what in _shots_mistakes(entry):
            found.add(f"dataset_registry: {name}: shots {what}")
        if _where(entry, "train") is not None and _where(entry, "train") == _where(entry, "test"):
            what = "a model must not be tested on problems that it was trained on"
            found.add(f"dataset_registry: {name}: train and test are the same split; {what}")
    for name in _used_datasets(config):
        missing = [split for split in ("train", "test") if split not in registry.get(name, {"train": 1, "test": 1})]
        if missing:
            what = f"has no {' and no '.join(missing)} split; give it a path, e.g. path: FILE.jsonl"
            found.add(f"dataset_registry: {name}: {what}")
    for name in (name for name in config["datasets"] if name in registry):
        _check_amounts(config, name, found)
    _check_few_shot(config, found)


def check_files(config: Config, found: Refusals) -> None:
    """Check that files of the selected datasets exist and have enough worked examples."""
    few_shot = any(stage["few_shot"] for stage in config["prompts"].values())
    for name in (name for name in config["datasets"] if name in config["dataset_registry"]):
        entry, where = config["dataset_registry"][name], f"dataset_registry: {name}: "
        named = {f"{split}: path": entry[split]["path"] for split in SPLITS if "path" in entry.get(split, {})}
        for key, path in {**named, **({"annotations": entry["annotations"]} if "annotations" in entry else {})}.items():
            if not Path(path).is_file():
                found.add(f"{where}{key} is {path!r}, which {_problem(Path(path))}")
            elif not Path(path).stat().st_size:
                found.add(f"{where}{key} is {path!r}, which is empty")
        if few_shot:
            _check_counted(entry, where, found)
        for model in config["models"] if "released_pairs" in entry else ():
            folder = entry["released_pairs"].replace("{model}", model)
            if not Path(folder).is_dir():
                found.add(f"{where}released_pairs is {folder!r} for {model}, which is not a folder")
    published = config["published"]["table1"]
    if not Path(published).is_file():
        found.add(f"published: table1 is {published!r}, which {_problem(Path(published))}")


def _problem(path: Path) -> str:
    return "is not a file" if path.exists() else "does not exist"


def _check_counted(entry: Config, where: str, found: Refusals) -> None:
    """Check that a local split has as many problems as worked examples are taken from it.

    The size of other splits is known from the config, see `check_datasets`.
    """
    shots = entry.get("shots", {})
    path = Path(entry.get(shots.get("split"), {}).get("path", ""))
    there = _lines(path) if path.is_file() else sys.maxsize
    if shots and shots["count"] > there:
        what = f"but the split {shots['split']} has at most {there} problems"
        found.add(f"{where}shots: count is {shots['count']}, {what}")


def _where(entry: Config, split: str) -> tuple[Any, ...] | None:
    """Where on the hub a split comes from; None for other sources.

    Local files are compared by their questions when they are read.
    """
    source = entry.get(split, {})
    return (
        tuple(source.get(key) for key in ("hub", "subset", "hub_split", "revision"))
        if _source(source) == "hub"
        else None
    )


def _source(source: Config) -> str | None:
    """The kind of source that a split is read from; a path overrides the hub."""
    return next((key for key in SOURCES if key in source), None)


def _source_mistakes(source: Config, style: str) -> Iterator[str]:
    kind = _source(source)
    if kind is None:
        yield "names no source; give one of world, path, hub"
        return
    others = [key for key in ("path", "hub") if key in source]
    if kind == "world" and others:
        what = "register your own files as a dataset with a name of their own"
        yield f"is generated (world), so it cannot have {' and '.join(others)}; {what}"
        return
    read = {*_READ[kind], *(_READ["hub"] if "hub" in source else ())}
    unread = [key for key in source if key not in read]
    if unread:
        yield f"has {', '.join(unread)}, which its source ({kind}) does not read; it reads {', '.join(_READ[kind])}"
    needed = {"world": ("problems",), "hub": ("hub_split",)}.get(kind, ())
    for key in (key for key in needed if key not in source):
        yield f"has no {key}, which its source ({kind}) needs"
    if kind == "world" and _WORLDS[source["world"]] != style:
        world = source["world"]
        yield f"is of the world {world}, whose style is {_WORLDS[world]}, but the style of the dataset is {style}"


def _shots_mistakes(entry: Config) -> Iterator[str]:
    shots = entry.get("shots")
    if shots is None:
        return
    named = [key for key in ("task", "split") if key in shots]
    if len(named) != 1:
        yield "names no source; give task or split" if not named else "names task and split; give only one of them"
    elif "split" in shots:
        if shots["split"] not in entry:
            yield f"are of the split {shots['split']}, which the dataset does not have"
        else:
            there = problems_of(entry[shots["split"]])
            if there is not None and shots["count"] > there:
                yield f"count is {shots['count']}, but the split {shots['split']} has {there} problems"


def problems_of(source: Config) -> int | None:
    """The most problems that a split can have; None if the config does not say."""
    return min((source[key] for key in ("problems", "rows") if key in source), default=None)


def _used_datasets(config: Config) -> Iterable[str]:
    """The datasets that the selection or a study names."""
    studies = config["studies"]
    selections = [config, studies["temperatures"], studies["agreement"], *studies["comparisons"].values()]
    return dict.fromkeys(name for selection in selections for name in selection["datasets"])


def _check_few_shot(config: Config, found: Refusals) -> None:
    stages = [stage for stage, entry in config["prompts"].items() if entry["few_shot"]]
    for name in config["datasets"] if stages else ():
        if "shots" not in config["dataset_registry"].get(name, {"shots": None}):
            what = f"but the dataset {name} has no shots; add e.g. shots: {{split: validation, count: 4}}"
            found.add(f"prompts: {', '.join(stages)}: few_shot is true, {what}")


def _check_amounts(config: Config, dataset: str, found: Refusals) -> None:
    """Check that every shard has problems, and that answers remain for training.

    The positive set has at most one answer per problem, of which `held_out` are left out.
    """
    there = problems_of(config["dataset_registry"][dataset].get("train", {}))
    sampled = min((n for n in (there, config["trajectories"]["problems"]) if n is not None), default=None)
    if sampled is None:
        return
    shards = config["trajectories"]["shards"]
    if shards > sampled:
        what = f"but {dataset} has only {sampled} train problems to divide among them"
        found.add(f"trajectories: shards is {shards}, {what}")
    for where, held_out in _held_out(config):
        if held_out >= sampled:
            what = f"but {dataset} has answers to at most {sampled} train problems, and some must remain for training"
            found.add(f"{where}: held_out is {held_out}, {what}")


def _held_out(config: Config) -> Iterator[tuple[str, int]]:
    """Every section or entry that leaves out answers, and how many."""
    yield "contrast", config["contrast"]["held_out"]
    if any(config["method_registry"].get(name, {}).get("objective") == "nll" for name in config["methods"]):
        yield "alignment", config["alignment"]["held_out"]
    for section in ("method_registry", "variants"):
        for name, entry in config[section].items():
            if "held_out" in entry:
                yield f"{section}: {name}", entry["held_out"]


def _lines(path: Path) -> int:
    """The most problems in a file: its lines with text; unlimited for a compressed file."""
    if path.suffix == ".gz":
        return sys.maxsize
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def released_folder(config: Config, model: str, dataset: str) -> Path:
    """The folder of the authors' files of a cell; {model} in its path is the model's name."""
    return Path(config["dataset_registry"][dataset]["released_pairs"].replace("{model}", model))


def are_scored(config: Config, dataset: str) -> bool:
    """Whether the authors' files of a dataset have contrastive scores.

    Raises ConfigError if they have scores for only some of the selected models, and ArtifactError
    if files are missing.
    """
    entry = config["dataset_registry"][dataset]
    folders = {model: released_folder(config, model, dataset) for model in config["models"]}
    missing = [name for name, path in folders.items() if "scores" not in authors_files.files(path, entry["style"])]
    if missing and len(missing) < len(folders):
        what = (
            f"released_pairs has contrastive scores for some of the selected models, but not for {', '.join(missing)}"
        )
        raise ConfigError(f"dataset_registry: {dataset}: {what}")
    return not missing
