"""Checks of the registered models: folders, hardware, lengths of answers, installed packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from critical_tokens.core.hub import on_hub
from critical_tokens.core.records import ArtifactError, Failure
from critical_tokens.data.prompts import CHAT
from critical_tokens.data.shots import ShotsError, from_task
from critical_tokens.engines import opening
from critical_tokens.models import gguf_files, model_files
from critical_tokens.planning import hardware, sizing
from critical_tokens.workflow.refusals import ConfigError, Refusals
from critical_tokens.workflow.selections import UNTRAINED

Config = Mapping[str, Any]

# The fewest tokens that the prompt of a question takes.
_SHORTEST_PROMPT = 16


def check_models(config: Config, found: Refusals) -> None:
    """Check the entries of all models, and that batches can be divided among their processes."""
    for name, entry in config["model_registry"].items():
        where = f"model_registry: {name}: "
        for dataset in entry.get("temperatures", {}):
            found.require(dataset, config["dataset_registry"], f"{where}temperatures")
        if "tokenizer" in entry and "gguf" not in entry:
            what = "which only has an effect where path is a GGUF file"
            found.add(f"{where}tokenizer is {entry['tokenizer']!r}, {what}")
        if on_hub(entry["path"]) and "parameters" not in entry:
            what = f"and there is no folder {entry['path']} to count them in"
            found.add(f"{where}parameters is missing, {what}; give their number, which decides GPUs and memory")
        if "revision" in entry and not (on_hub(entry["path"]) or on_hub(entry.get("tokenizer", ""))):
            what = "but path is a local folder; only a hub id has revisions"
            found.add(f"{where}revision is {entry['revision']!r}, {what}")
        if "context" in entry and entry.get("engine") != "vllm":
            found.add(f"{where}context is {entry['context']}, which only has an effect with engine: vllm")
    for name in _selected(config):
        _check_processes(config, name, found)


def check_folders(config: Config, found: Refusals) -> None:
    """Check that folders of selected models are complete and fit the hardware and the answers."""
    stated = hardware.hardware_of(config)
    for name in _selected(config):
        entry = config["model_registry"][name]
        lacking = list(_lacking(config, entry))
        for key, path, what in lacking:
            found.add(f"model_registry: {name}: {key} is {path!r}, which {what}")
        if not lacking and _has_chats(config) and _has_chat_template(config, entry) is False:
            what = "prompts have template: chat, but the tokenizer of this model has no chat template"
            found.add(f"model_registry: {name}: {what}; name an instruct model, or set template: usual")
        own = None if lacking or on_hub(entry["path"]) else _counted(entry)
        if own is not None and "parameters" in entry and entry["parameters"] != own:
            what = f"but the weights in {entry.get('gguf', entry['path'])} have {own}; leave the key out"
            found.add(f"model_registry: {name}: parameters is {entry['parameters']}, {what}")
        if not lacking and (not on_hub(entry["path"]) or "parameters" in entry):
            for sentence in (*sizing.misfits(name, entry, stated), *_too_long(config, name)):
                found.add(sentence)


def place_conversions(config: Config) -> None:
    """Let `path` of models in GGUF files be the folders that they are converted to, in place.

    The new key `gguf` has the path of the file.
    """
    for name, entry in config["model_registry"].items():
        if gguf_files.is_gguf(entry["path"]):
            entry["gguf"] = entry["path"]
            entry["path"] = str(_results(config) / "models" / name)


def _lacking(config: Config, entry: Config) -> Iterator[tuple[str, str, str]]:
    """Keys of an entry with their paths and what the files there lack."""
    if "gguf" in entry:
        for what in gguf_files.lacks(Path(entry["gguf"]), tokenizer="tokenizer" not in entry):
            yield "path", entry["gguf"], what
        if "tokenizer" in entry and not on_hub(entry["tokenizer"]):
            for what in model_files.tokenizer_lacks(Path(entry["tokenizer"])):
                yield "tokenizer", entry["tokenizer"], what
    elif not (on_hub(entry["path"]) or _is_made_here(config, entry)):
        for what in model_files.lacks(Path(entry["path"])):
            yield "path", entry["path"], what


def _has_chat_template(config: Config, entry: Config) -> bool | None:
    """Whether a model's tokenizer has a chat template; None where its files are not here yet."""
    if "gguf" in entry and "tokenizer" not in entry:
        return gguf_files.header(Path(entry["gguf"])).has_chat_template
    place = entry.get("tokenizer", entry["path"])
    return None if on_hub(place) or _is_made_here(config, entry) else model_files.has_chat_template(Path(place))


def tokenizer_files(config: Config, name: str) -> list[str]:
    """The files of the original tokenizer of a GGUF file, if the model's entry names one.

    Of a tokenizer on the hub it is the record that it was fetched.
    """
    place = config["model_registry"][name].get("tokenizer")
    if place is None:
        return []
    if on_hub(place):
        return [str(_results(config) / "hub" / "tokenizers" / f"{name}.json")]
    return sorted(str(path) for pattern in ("*.json", "*.model", "merges.txt") for path in Path(place).glob(pattern))


def loaded_files(config: Config, name: str) -> list[str]:
    """The files of a local base model that its jobs read.

    If the workflow makes the model, they may not exist yet.
    """
    entry = config["model_registry"][name]
    folder = Path(entry["path"])
    if "gguf" in entry:
        return [str(folder / file) for file in gguf_files.CONVERTED]
    if _is_made_here(config, entry):
        return [str(folder / file) for file in ("model.safetensors", "tokenizer.json")]
    found = (path for suffix in ("json", "jinja", "safetensors") for path in folder.glob(f"*.{suffix}"))
    return sorted(str(path) for path in found if path.stem != "card")


def _has_chats(config: Config) -> bool:
    """Whether any stage, or any variant of the pairs' prompts, asks its questions in a chat."""
    return any(stage.get("template") == CHAT for stage in (*config["prompts"].values(), *config["variants"].values()))


def _counted(entry: Config) -> int | None:
    """The number of parameters of a local model; None if its folder does not exist yet."""
    if "gguf" in entry:
        return gguf_files.header(Path(entry["gguf"])).parameters
    folder = Path(entry["path"])
    return model_files.parameters(folder) if folder.is_dir() else None


def _selected(config: Config) -> list[str]:
    """The selected models that are registered; `study_entries` reports the others."""
    return [name for name in config["models"] if name in config["model_registry"]]


def _is_made_here(config: Config, entry: Config) -> bool:
    """Whether the workflow itself makes the model, so that its folder may not exist yet."""
    return Path(entry["path"]).parent == _results(config) / "pretrained"


def _results(config: Config) -> Path:
    return Path(config.get("pathvars", {}).get("results", "results"))


def _check_processes(config: Config, name: str, found: Refusals) -> None:
    processes = config["model_registry"][name].get("processes", 1)
    sizes = {"contrast": config["contrast"]["batch_size"]}
    for method in config["methods"]:
        entry = config["method_registry"].get(method, {})
        if entry.get("objective") != UNTRAINED:
            sizes[f"method {method}"] = entry.get("batch_size", config["alignment"]["batch_size"])
    for key, size in sizes.items():
        if size % processes:
            found.add(f"{key}: batch_size is {size}, must be a multiple of the {processes} processes of {name}")


def _too_long(config: Config, name: str) -> Iterator[str]:
    """Sentences about answers so long that no question fits into the context or into a batch."""
    entry = config["model_registry"][name]
    own = None
    if "gguf" in entry:
        own = gguf_files.header(Path(entry["gguf"])).context
    elif not on_hub(entry["path"]) and Path(entry["path"]).is_dir():
        try:
            own = model_files.longest(Path(entry["path"]))
        except ArtifactError:
            # `check_folders` reports what the folder lacks.
            return
    stated = entry.get("context")
    if own and stated and stated > own:
        what = f"but the model reads at most {own} tokens (see its config.json)"
        yield f"model_registry: {name}: context is {stated}, {what}"
    limits = {
        f"the context of {name}": min((length for length in (own, stated) if length), default=None),
        "trajectories: max_batch_tokens": config["trajectories"]["max_batch_tokens"],
    }
    for dataset in (name for name in config["datasets"] if name in config["dataset_registry"]):
        asked = config["dataset_registry"][dataset]["max_new_tokens"]
        for what, limit in limits.items():
            if limit and asked + _SHORTEST_PROMPT > limit:
                most = f"must be at most {limit - _SHORTEST_PROMPT}"
                why = f"because {what} is {limit} tokens, and the question needs some of them"
                yield f"dataset_registry: {dataset}: max_new_tokens is {asked}, {most}, {why}"


# The packages that every run imports for training, sampling, grading, tables and figures.
_ALWAYS = ("torch", "transformers", "peft", "accelerate", "safetensors", "math_verify", "pandas", "matplotlib")
_OF_HUB = ("datasets", "huggingface_hub")


def check_packages(config: Config, model: str, project: Path) -> None:
    """Raise ConfigError if jobs with this model miss a package that they import.

    The model's engine may have an environment of its own in the folder `project`; all other jobs
    run with the running Python.
    """
    sources = [config["dataset_registry"][name].get("train", {}) for name in config["datasets"]]
    in_gguf = ("gguf",) if "gguf" in config["model_registry"][model] else ()
    missing = _missing((*_ALWAYS, *in_gguf, *(_OF_HUB if any("hub" in source for source in sources) else ())))
    if missing:
        what = "run `make environment` or `pip install -r envs/requirements.txt`, or add --sdm conda"
        raise ConfigError(f"{', '.join(missing)}: not installed for {sys.executable}; {what}")
    try:
        opening.check_installed(config["model_registry"][model].get("engine", "transformers"), project)
    except Failure as error:
        raise ConfigError(f"model_registry: {model}: {error}") from error


@lru_cache
def _missing(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if find_spec(name) is None]


def check_task(config: Config, dataset: str) -> None:
    """Raise ConfigError if lm-eval is missing or its task has too few worked examples."""
    shots = config["dataset_registry"][dataset].get("shots", {})
    if "task" not in shots:
        return
    try:
        there = len(from_task(shots["task"]))
    except ShotsError as error:
        where = f"dataset_registry: {dataset}: shots: task is {shots['task']!r}"
        raise ConfigError(f"{where}, whose worked examples cannot be read: {error}") from error
    if shots["count"] > there:
        what = f"count is {shots['count']}, but {shots['task']} has {there} examples"
        raise ConfigError(f"dataset_registry: {dataset}: shots: {what}")
