"""Sweeps: a method for every value, registered under a name like cdpo-beta0.5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critical_tokens.configuration.refusals import Refusals, collected
from critical_tokens.configuration.trained import check_key, reads_scores
from critical_tokens.methods import OBJECTIVES

# Keys that are long in a name.
_SHORT = {"learning_rate": "lr"}
TUNING = "tuning"


def register_sweeps(config: dict[str, Any]) -> dict[str, list[str]]:
    """Register a method for every value of the sweeps and of `tuning`; their names by sweep, the latter's under "tuning".

    A key of contrastive estimation makes a variant too. Raises ConfigError for a method that is not registered or does not
    read the key, for an unknown variant, and for a name that stands for something else already.
    """
    with collected() as found:
        for name, entry in config["method_registry"].items():
            if "variant" in entry:
                found.require(entry["variant"], config["variants"], f"method_registry: {name}: variant")
        for where, method, key, _ in (of_sweep for entries in _entries(config).values() for of_sweep in entries):
            if found.require(method, config["method_registry"], where):
                _check_swept(config, method, key, where, found)
    with collected() as found:
        names: dict[str, list[str]] = {}
        for sweep, entries in _entries(config).items():
            names[sweep] = []
            for where, method, key, values in entries:
                for value in values:
                    name = _register(config, method, key, value, where, found)
                    if name in names[sweep]:
                        found.add(f"{where}: two values of {key} are called {name}; they differ behind the sixth digit only")
                    names[sweep].append(name)
    return names


def _entries(config: Mapping[str, Any]) -> dict[str, list[tuple[str, str, str, list[float]]]]:
    """What each sweep varies: how messages call it, method, key and values."""
    sweeps = {
        name: [(f"sweeps: {name}: method", entry["method"], entry["key"], entry["values"])]
        for name, entry in config["sweeps"].items()
    }
    rates = config[TUNING]["learning_rates"]
    sweeps[TUNING] = [(f"{TUNING}: methods", method, "learning_rate", rates) for method in config[TUNING]["methods"]]
    return sweeps


def _check_swept(config: Mapping[str, Any], method: str, key: str, where: str, found: Refusals) -> None:
    entry = config["method_registry"][method]
    if entry["objective"] == "none":
        found.add(f"{where} has {method!r}, which trains nothing")
    elif key == "beta":
        if not reads_scores(entry):
            found.add(f"{where} has {method!r}, which reads no contrastive scores, so beta has no effect on it")
    elif entry["objective"] in OBJECTIVES:
        for sentence in check_key(config, entry, key):
            found.add(f"{where} has {method!r}: {sentence}")


def _register(config: dict[str, Any], method: str, key: str, value: float, where: str, found: Refusals) -> str:
    """Register the method of one value, and its variant where the key belongs to contrastive estimation; its name."""
    entry = config["method_registry"][method]
    setting = f"{_SHORT.get(key, key)}{value:g}"
    own = {key: value}
    if key == "beta":
        inherited = entry.get("variant")
        variant = f"{inherited}-{setting}" if inherited else setting
        _put(config, "variants", variant, config["variants"].get(inherited, {}) | own, where, found)
        own = {"variant": variant}
    name = f"{method}-{setting}"
    _put(config, "method_registry", name, entry | own, where, found)
    return name


def _put(config: dict[str, Any], registry: str, name: str, entry: Mapping[str, Any], where: str, found: Refusals) -> None:
    """Register an entry; a mistake where the name stands for another one. Two sweeps may register the same one."""
    known = config[registry].setdefault(name, entry)
    if known != entry:
        found.add(f"{where}: registers {name}, but {registry} has another {name}; give that one another name")
