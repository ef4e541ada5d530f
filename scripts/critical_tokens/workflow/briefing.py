"""The settings in force for models that a user brought along: a few lines before a run or a plan.

What `config.yaml` sets was chosen for the pocket models. Whoever brings a larger one should see it
where it applies to theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Config = Mapping[str, Any]

# Sections whose learning rates a larger model needs other values for.
_RATES = ("contrast", "alignment")


def lines(config: Config, shipped: Config) -> list[str]:
    """A line for each selected model that `shipped` (config.yaml) does not register, and a warning
    where its rates apply.
    """
    own = [name for name in config["models"] if name not in shipped["model_registry"]]
    told = [f"{name}: {'; '.join(_facts(config, name))}" for name in own]
    kept = [key for key in _RATES if config[key]["learning_rate"] == shipped[key]["learning_rate"]]
    if own and kept:
        told.append(
            f"learning rates of {' and '.join(kept)} are those of config.yaml, which suit the pocket models only; "
            "presets/own.yaml has the paper's: --configfile presets/own.yaml YOURS.yaml"
        )
    return told


def _facts(config: Config, model: str) -> Iterator[str]:
    sampled, entry = config["trajectories"], config["model_registry"][model]
    temperatures = {
        name: entry.get("temperatures", {}).get(name, sampled["temperature"]) for name in config["datasets"]
    }
    yield f"{_problems(sampled['problems'])} x {sampled['samples']} answers at temperature {_by_name(temperatures)}"
    few_shot = [stage for stage, settings in config["prompts"].items() if settings["few_shot"]]
    yield f"few-shot prompts: {', '.join(few_shot) or 'none'}"
    rates = {"contrast": config["contrast"]["learning_rate"]}
    trained = {name: config["method_registry"][name] for name in config["methods"]}
    default = config["alignment"]["learning_rate"]
    rates |= {
        name: method.get("learning_rate", default) for name, method in trained.items() if method["objective"] != "none"
    }
    yield f"learning rates: {', '.join(f'{name} {rate:g}' for name, rate in rates.items())}"
    yield f"gamma {config['alignment']['gamma']:g}"


def _problems(limit: int | None) -> str:
    return "all train problems" if limit is None else f"{limit} train problems"


def _by_name(values: Mapping[str, float]) -> str:
    """One value where all are equal, else each with its name."""
    if len(set(values.values())) == 1:
        return f"{next(iter(values.values())):g}"
    return ", ".join(f"{value:g} ({name})" for name, value in values.items())
