"""Models of the registry: what a folder holds, what fits the hardware, how long an answer may be,
and missing packages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from critical_tokens.core.hub import on_hub
from critical_tokens.core.records import ArtifactError
from critical_tokens.data.shots import ShotsError, from_task
from critical_tokens.models import model_files
from critical_tokens.workflow import sizing
from critical_tokens.workflow.refusals import ConfigError, Refusals

Config = Mapping[str, Any]

# Tokens that a question takes at least, between the beginning of the context and the answer.
_SHORTEST_PROMPT = 16


def check_models(config: Config, found: Refusals) -> None:
    """What the config says of its models, and whether the selected ones fit the hardware and the
    batches.
    """
    for name, entry in config["model_registry"].items():
        where = f"model_registry: {name}: "
        for dataset in entry.get("temperatures", {}):
            found.require(dataset, config["dataset_registry"], f"{where}temperatures")
        if on_hub(entry["path"]) and "parameters" not in entry:
            what = "parameters is missing; GPUs and memory of its jobs follow from it, and it is read from local folders only"
            found.add(f"{where}{what} (there is no folder {entry['path']})")
        if "revision" in entry and not on_hub(entry["path"]):
            found.add(
                f"{where}revision is {entry['revision']!r}, but path is a local folder; only a hub id has revisions"
            )
        if "context" in entry and entry.get("engine") != "vllm":
            found.add(f"{where}context is {entry['context']}, which has an effect with engine: vllm only")
    for name in _selected(config):
        _check_processes(config, name, found)


def check_folders(config: Config, found: Refusals) -> None:
    """The folders of the selected models hold what is loaded, and the models fit hardware and
    answers.
    """
    hardware = sizing.hardware_of(config)
    for name in _selected(config):
        entry = config["model_registry"][name]
        lacking = (
            [] if on_hub(entry["path"]) or _is_made_here(config, entry) else model_files.lacks(Path(entry["path"]))
        )
        for what in lacking:
            found.add(f"model_registry: {name}: path is {entry['path']!r}, which {what}")
        own = None if lacking or on_hub(entry["path"]) else _counted(entry)
        if own is not None and "parameters" in entry and entry["parameters"] != own:
            what = (
                f"parameters is {entry['parameters']}, but the weights in {entry['path']} have {own}; leave the key out"
            )
            found.add(f"model_registry: {name}: {what}")
        if not lacking and (not on_hub(entry["path"]) or "parameters" in entry):
            for sentence in (*sizing.misfits(name, entry, hardware), *_too_long(config, name)):
                found.add(sentence)


def loaded_files(folder: Path, made_here: bool) -> list[str]:
    """Files of a local base model that its jobs read. If the workflow makes it, they need not be there yet."""
    if made_here:
        return [str(folder / name) for name in ("model.safetensors", "tokenizer.json")]
    found = (path for suffix in ("json", "safetensors") for path in folder.glob(f"*.{suffix}"))
    return sorted(str(path) for path in found if path.stem != "card")


def _counted(entry: Config) -> int | None:
    """The parameters of a local model; None where its folder is not there yet."""
    folder = Path(entry["path"])
    return model_files.parameters(folder) if folder.is_dir() else None


def _selected(config: Config) -> list[str]:
    """Selected models that are registered; the others are told elsewhere."""
    return [name for name in config["models"] if name in config["model_registry"]]


def _is_made_here(config: Config, entry: Config) -> bool:
    """Whether the workflow itself makes the model, which then need not be there yet."""
    results = config.get("pathvars", {}).get("results", "results")
    return Path(entry["path"]).parent == Path(results) / "pretrained"


def _check_processes(config: Config, name: str, found: Refusals) -> None:
    processes = config["model_registry"][name].get("processes", 1)
    sizes = {"contrast": config["contrast"]["batch_size"]}
    for method in config["methods"]:
        entry = config["method_registry"].get(method, {})
        if entry.get("objective") != "none":
            sizes[f"method {method}"] = entry.get("batch_size", config["alignment"]["batch_size"])
    for key, size in sizes.items():
        if size % processes:
            found.add(f"{key}: batch_size is {size}, must be a multiple of the {processes} processes of {name}")


def _too_long(config: Config, name: str) -> Iterator[str]:
    """Answers that leave no room for a question in the model's context, or in a batch."""
    entry = config["model_registry"][name]
    own = None
    if not on_hub(entry["path"]) and Path(entry["path"]).is_dir():
        try:
            own = model_files.longest(Path(entry["path"]))
        except ArtifactError:
            return  # told as what the folder lacks
    stated = entry.get("context")
    if own and stated and stated > own:
        yield f"model_registry: {name}: context is {stated}, but the model reads {own} tokens at most (its config.json)"
    limits = {
        f"the context of {name}": min((length for length in (own, stated) if length), default=None),
        "trajectories: max_batch_tokens": config["trajectories"]["max_batch_tokens"],
    }
    for dataset in (name for name in config["datasets"] if name in config["dataset_registry"]):
        asked = config["dataset_registry"][dataset]["max_new_tokens"]
        for what, limit in limits.items():
            if limit and asked + _SHORTEST_PROMPT > limit:
                yield (
                    f"dataset_registry: {dataset}: max_new_tokens is {asked}, must be at most {limit - _SHORTEST_PROMPT}: "
                    f"{what} is {limit} tokens, and the question needs some of them"
                )


# Imported by every run: training and sampling, grading, tables and figures.
_ALWAYS = ("torch", "transformers", "peft", "accelerate", "safetensors", "math_verify", "pandas", "matplotlib")
_OF_HUB = ("datasets", "huggingface_hub")


def check_packages(config: Config, model: str) -> None:
    """Raise ConfigError where the running Python lacks a package that jobs with this model import."""
    sources = [config["dataset_registry"][name].get("train", {}) for name in config["datasets"]]
    missing = _missing((*_ALWAYS, *(_OF_HUB if any("hub" in source for source in sources) else ())))
    if missing:
        what = "type `make environment`, or `pip install -r envs/requirements.txt`, or add --sdm conda"
        raise ConfigError(f"{', '.join(missing)}: not installed for {sys.executable}; {what}")
    if config["model_registry"][model].get("engine") == "vllm" and _missing(("vllm",)):
        what = "add --sdm conda, which makes the environment of envs/vllm.yaml, or set engine: transformers"
        raise ConfigError(
            f"model_registry: {model}: engine is vllm, which is not installed for {sys.executable}; {what}"
        )


@lru_cache
def _missing(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if find_spec(name) is None]


def check_task(config: Config, dataset: str) -> None:
    """Raise ConfigError where lm-eval is missing, or its task has fewer worked examples than a
    dataset asks for.
    """
    shots = config["dataset_registry"][dataset].get("shots", {})
    if "task" not in shots:
        return
    try:
        there = len(from_task(shots["task"]))
    except ShotsError as error:
        raise ConfigError(
            f"dataset_registry: {dataset}: shots are of lm-eval's task {shots['task']}: {error}"
        ) from error
    if shots["count"] > there:
        what = f"count is {shots['count']}, but {shots['task']} has {there} examples"
        raise ConfigError(f"dataset_registry: {dataset}: shots: {what}")
