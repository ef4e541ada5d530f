"""A few lines before a run or a plan, about the settings that apply to a user's own models.

The settings of `config.yaml` were chosen for the pocket models. A user with a larger model should
see which of them apply to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from critical_tokens.data.prompts import CHAT
from critical_tokens.workflow.selections import UNTRAINED

Config = Mapping[str, Any]

# Sections whose learning rates do not suit larger models.
_RATES = ("contrast", "alignment")


def lines(config: Config, shipped: Config) -> list[str]:
    """A line for each model of the user's own, and a warning if learning rates do not suit them.

    config: the completed config.
    shipped: config.yaml as it is shipped. A selected model is the user's own if it is not
        registered there.
    """
    own = [name for name in config["models"] if name not in shipped["model_registry"]]
    found = [f"{name}: {'; '.join(_facts(config, name))}" for name in own]
    kept = [key for key in _RATES if config[key]["learning_rate"] == shipped[key]["learning_rate"]]
    if own and kept:
        found.append(
            f"learning rates of {' and '.join(kept)} are those of config.yaml, which suit only the pocket models; "
            "for the paper's learning rates use presets/own.yaml: --configfile presets/own.yaml YOURS.yaml"
        )
    return found


def _facts(config: Config, model: str) -> Iterator[str]:
    sampled, entry = config["trajectories"], config["model_registry"][model]
    temperatures = {
        name: entry.get("temperatures", {}).get(name, sampled["temperature"]) for name in config["datasets"]
    }
    yield f"{_problems(sampled['problems'])} x {sampled['samples']} answers at temperature {_by_name(temperatures)}"
    few_shot = [stage for stage, settings in config["prompts"].items() if settings["few_shot"]]
    yield f"few-shot prompts: {', '.join(few_shot) or 'none'}"
    chats = [stage for stage, settings in config["prompts"].items() if settings["template"] == CHAT]
    if chats:
        yield f"chats: {', '.join(chats)}"
    rates = {"contrast": config["contrast"]["learning_rate"]}
    trained = {name: config["method_registry"][name] for name in config["methods"]}
    default = config["alignment"]["learning_rate"]
    rates |= {
        name: method.get("learning_rate", default)
        for name, method in trained.items()
        if method["objective"] != UNTRAINED
    }
    yield f"learning rates: {', '.join(f'{name} {rate:g}' for name, rate in rates.items())}"
    yield f"gamma {config['alignment']['gamma']:g}"


def _problems(limit: int | None) -> str:
    return "all train problems" if limit is None else f"{limit} train problems"


def _by_name(values: Mapping[str, float]) -> str:
    """One value if all are equal; otherwise every value with its name."""
    if len(set(values.values())) == 1:
        return f"{next(iter(values.values())):g}"
    return ", ".join(f"{value:g} ({name})" for name, value in values.items())
