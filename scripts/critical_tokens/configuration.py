"""What the config means: checks that no schema can express, and the methods that its sweeps stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critical_tokens import sizing
from critical_tokens.workflow import on_hub

# Keys that are long in a name.
_SHORT = {"learning_rate": "lr"}


class ConfigError(ValueError):
    """A config that names something that does not exist, or does not fit together."""


# Keys that select, and the registries that they select from.
_REGISTRIES = {"models": "model_registry", "datasets": "dataset_registry", "methods": "method_registry"}


def check_config(config: Mapping[str, Any], sweeps: Mapping[str, list[str]]) -> None:
    """Checks that no schema can express, `sweeps` as registered. Raises ConfigError naming key, value and what is allowed."""
    _require_selected(config, config, "")
    _check_models(config)
    _check_datasets(config["dataset_registry"])
    _check_shots(config)
    _check_methods(config)
    _check_studies(config, sweeps)
    _check_figures(config)


def _check_models(config: Mapping[str, Any]) -> None:
    for name, entry in config["model_registry"].items():
        for dataset in entry.get("temperatures", {}):
            _require(dataset, config["dataset_registry"], f"model_registry: {name}: temperatures")
        if on_hub(entry["path"]) and "parameters" not in entry:
            raise ConfigError(f"model_registry: {name}: parameters is missing; GPUs and memory of its jobs follow from it")
    hardware = sizing.hardware_of(config)
    unfit = [line for name in config["models"] for line in sizing.misfits(name, config["model_registry"][name], hardware)]
    if unfit:
        raise ConfigError("\n".join(unfit))
    for name in config["models"]:
        processes = config["model_registry"][name].get("processes", 1)
        sizes = {"contrast": config["contrast"]["batch_size"]}
        for method in config["methods"]:
            sizes[f"method {method}"] = config["method_registry"][method].get("batch_size", config["alignment"]["batch_size"])
        for key, size in sizes.items():
            if size % processes:
                raise ConfigError(f"{key}: batch_size is {size}, must be a multiple of the {processes} processes of {name}")


def _check_datasets(registry: Mapping[str, Any]) -> None:
    for name, entry in registry.items():
        for split in ("train", "validation", "test"):
            source = entry.get(split)
            if source and not {"world", "path", "hub"} & set(source):
                raise ConfigError(f"dataset_registry: {name}: {split} names no source; give one of world, path, hub")
        shots = entry.get("shots", {})
        if shots and not {"task", "split"} & set(shots):
            raise ConfigError(f"dataset_registry: {name}: shots names no source; give task or split")


def _check_shots(config: Mapping[str, Any]) -> None:
    stages = [stage for stage, entry in config["prompts"].items() if entry["few_shot"]]
    for name in config["datasets"] if stages else ():
        if "shots" not in config["dataset_registry"][name]:
            what = "has no shots, e.g. shots: {split: validation, count: 4}"
            raise ConfigError(f"prompts: {', '.join(stages)} few_shot: dataset {name} {what}")


def _check_methods(config: Mapping[str, Any]) -> None:
    for name, entry in config["method_registry"].items():
        _require_start(name, config["method_registry"], f"method_registry: {name}: start")
        if entry["objective"] == "none" and entry["start"] != "base":
            raise ConfigError(f"method_registry: {name}: start is {entry['start']!r}, an untrained method starts from base")
        if entry.get("weights") == "base" and entry["start"] != "base":
            raise ConfigError(f"method_registry: {name}: weights of kind base are those of a method that starts from base")


def _check_studies(config: Mapping[str, Any], sweeps: Mapping[str, list[str]]) -> None:
    for study, entry in config["studies"].items():
        where = f"studies: {study}: "
        _require_selected(config, entry, where)
        if entry.get("sweep"):
            _require(entry["sweep"], config["sweeps"], f"{where}sweep")
        compared = entry["methods"] + sweeps.get(entry.get("sweep"), [])
        if entry["against"] not in compared:
            raise ConfigError(f"{where}against is {entry['against']!r}, must be one of {', '.join(compared)}")
    _require_selected(config, config["temperatures"], "temperatures: ")
    _require_selected(config, config["agreement"], "agreement: ")
    for name in config["agreement"]["variants"]:
        _require(name, config["variants"], "agreement: variants")


def _check_figures(config: Mapping[str, Any]) -> None:
    figures = config["figures"]
    _require(figures["example"]["model"], config["model_registry"], "figures: example: model")
    _require(figures["example"]["dataset"], config["dataset_registry"], "figures: example: dataset")
    _require(figures["against_exclusion"], config["method_registry"], "figures: against_exclusion")
    for name in figures["log_probabilities"]:
        _require(name, config["method_registry"], "figures: log_probabilities")
        if config["method_registry"][name]["objective"] in ("none", "nll"):
            raise ConfigError(f"figures: log_probabilities is {name!r}, which trains on no pairs")


def _require_selected(config: Mapping[str, Any], entry: Mapping[str, Any], where: str) -> None:
    """Models, datasets and methods that an entry names are registered."""
    for key, registry in _REGISTRIES.items():
        for name in entry.get(key, ()):
            _require(name, config[registry], f"{where}{key}")


def register_sweeps(config: dict[str, Any]) -> dict[str, list[str]]:
    """Register a method for every value of the sweeps and of `tuning`; their names by sweep, the latter's under "tuning".

    A key of contrastive estimation makes a variant too. Names are like cdpo-beta0.5. Raises ConfigError for a method that is
    not registered or trains nothing, and for an unknown variant.
    """
    for name, entry in config["method_registry"].items():
        if "variant" in entry:
            _require(entry["variant"], config["variants"], f"method_registry: {name}: variant")
    sweeps = {name: [(entry["method"], entry["key"], entry["values"])] for name, entry in config["sweeps"].items()}
    sweeps["tuning"] = [(method, "learning_rate", config["tuning"]["learning_rates"]) for method in config["tuning"]["methods"]]
    names: dict[str, list[str]] = {}
    for sweep, entries in sweeps.items():
        names[sweep] = []
        for method, key, values in entries:
            where = f"{sweep}: methods" if sweep == "tuning" else f"sweeps: {sweep}: method"
            _require(method, config["method_registry"], where)
            entry = config["method_registry"][method]
            if entry["objective"] == "none":
                raise ConfigError(f"{where} has {method!r}, which trains nothing")
            for value in values:
                setting = f"{_SHORT.get(key, key)}{value:g}"
                own = {key: value}
                if key == "beta":
                    inherited = entry.get("variant")
                    variant = f"{inherited}-{setting}" if inherited else setting
                    config["variants"][variant] = config["variants"].get(inherited, {}) | own
                    own = {"variant": variant}
                config["method_registry"][f"{method}-{setting}"] = entry | own
                names[sweep].append(f"{method}-{setting}")
    return names


def _require(name: str, registry: Mapping[str, Any], key: str) -> None:
    if name not in registry:
        raise ConfigError(f"{key}: {name!r} is unknown; registered are {', '.join(sorted(registry))}")


def _require_start(name: str, registry: Mapping[str, Any], key: str) -> None:
    seen = [name]
    while (start := registry[seen[-1]]["start"]) != "base":
        if start not in registry:
            raise ConfigError(f"{key}: {start!r} is unknown; allowed are base and the methods {', '.join(sorted(registry))}")
        if start in seen:
            raise ConfigError(f"{key}: {' -> '.join([*seen, start])} never reaches base")
        seen.append(start)
