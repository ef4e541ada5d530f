"""Checks of the registered methods, and the registration of the methods of sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from critical_tokens.objectives.registry import REGISTRY
from critical_tokens.training.token_weights import TOKEN_WEIGHTS
from critical_tokens.workflow.refusals import Refusals, collected, nearest
from critical_tokens.workflow.selections import BASE, UNTRAINED

Config = Mapping[str, Any]
ALL_LINEAR = "all-linear"

# The keys that every training reads, and those that only trainings on one kind of data read.
_ALWAYS = (
    "objective", "start", "learning_rate", "epochs", "batch_size", "accumulation", "schedule", "warmup_share",
    "weight_decay", "gradient_checkpointing", "packing", "checkpoint_updates", "lora",
)  # fmt: skip
_OF_DATA = {"answers": ("eos_trained", "held_out"), "pairs": ("variant",)}
_OF_WEIGHTS = ("weights", "eos_weight")


def check_methods(config: Config, found: Refusals) -> None:
    """Check the objective, the start and the keys of every method.

    A method must start from the base model or from a method that does so in the end. Every key of
    its entry must have an effect.
    """
    registry = config["method_registry"]
    for name, entry in registry.items():
        where = f"method_registry: {name}: "
        if entry["objective"] not in (UNTRAINED, *REGISTRY):
            allowed = (UNTRAINED, *REGISTRY)
            hint = nearest(entry["objective"], allowed)
            found.add(f"{where}objective is {entry['objective']!r}, must be one of {', '.join(allowed)}{hint}")
            continue
        _check_start(name, registry, found)
        if entry["objective"] == UNTRAINED and entry["start"] != BASE:
            what = "must be base, because a method with the objective none trains nothing"
            found.add(f"{where}start is {entry['start']!r}, {what}")
        if entry.get("weights") == "base" and entry["start"] != BASE:
            found.add(f"{where}weights is 'base', but only a method that starts from base can have these weights")
        _check_layers(entry.get("lora", {}), where, found)
        for key in entry:
            for sentence in check_key(config, entry, key):
                found.add(f"{where}{sentence}")
    for section in ("contrast", "alignment"):
        _check_layers(config[section]["lora"], f"{section}: ", found)
    baseline = registry.get("baseline", {}).get("objective")
    if baseline != UNTRAINED:
        what = "because figures show the base model under the name baseline"
        found.add(f"method_registry: baseline: objective is {baseline!r}, must be none, {what}")


def check_key(config: Config, entry: Config, key: str) -> Iterator[str]:
    """What is wrong with a key of an entry: nothing, or a sentence that it has no effect."""
    objective = entry["objective"]
    if objective == UNTRAINED:
        if key not in ("objective", "start"):
            yield f"{key} has no effect, because the objective none trains nothing; it only reads start"
        return
    known = REGISTRY[objective]
    own = (*known.constants, *(_OF_WEIGHTS if known.weighted else ()), *_OF_DATA[known.data])
    if key not in (*_ALWAYS, *own):
        yield f"{key} has no effect on the objective {objective}, which reads {', '.join((*_ALWAYS[2:], *own))}"
        return
    settings = {**config["alignment"], **entry}
    if key == "tdpo_alpha" and settings["tdpo_variant"] == 1:
        yield "tdpo_alpha has no effect on variant 1 of TDPO; only tdpo_variant: 2 reads it"
    if key == "warmup_share" and settings["schedule"] == "constant" and settings[key]:
        yield "warmup_share has no effect on the schedule constant; use constant_with_warmup"
    if (
        key == "variant"
        and not reads_scores(entry)
        and "template" not in config["variants"].get(entry[key], {"template": ""})
    ):
        what = "which reads no contrastive scores; of a variant it reads only a template"
        yield f"variant {entry[key]!r} has no effect on the method, {what}"


def reads_scores(entry: Config) -> bool:
    """Whether a method weighs tokens by contrastive scores, so that a variant can affect it."""
    known = REGISTRY.get(entry["objective"])
    return bool(known and known.weighted) and "contrast" in TOKEN_WEIGHTS[entry.get("weights", "contrast")].tables


def _check_layers(lora: Config, where: str, found: Refusals) -> None:
    layers = lora.get("layers", ())
    if ALL_LINEAR in layers and len(layers) > 1:
        what = f"write only {ALL_LINEAR}, which means every linear layer"
        found.add(f"{where}lora: layers has {ALL_LINEAR} beside other names; {what}")


def _check_start(name: str, registry: Config, found: Refusals) -> None:
    seen = [name]
    while (start := registry[seen[-1]]["start"]) != BASE:
        where = f"method_registry: {name}: start"
        if start not in registry:
            allowed = f"allowed are base and the methods {', '.join(sorted(registry))}"
            found.add(f"{where}: {start!r} is unknown{nearest(start, registry)}; {allowed}")
            return
        if start in seen:
            found.add(f"{where}: {' -> '.join([*seen, start])} never reaches base")
            return
        seen.append(start)


# Short forms of keys for the names of methods.
_SHORT = {"learning_rate": "lr"}
TUNING = "tuning"


class Swept(TypedDict):
    """A method that a sweep registered.

    method: the method that the sweep varies.
    key: the key that the sweep varies.
    value: the value of this method, as text.
    """

    method: str
    key: str
    value: str


def register_sweeps(config: dict[str, Any]) -> dict[str, dict[str, Swept]]:
    """Register a method for every value of the sweeps and of `tuning`.

    Returns the registered methods by the name of the sweep and their own name. The methods of
    `tuning` are in the sweep "tuning". For the key beta, which belongs to contrastive estimation, a
    variant is registered, too.

    Raises ConfigError for a method that is not registered or does not read the key, for an unknown
    variant, and for a name that is already taken by something else.
    """
    with collected() as found:
        for name, entry in config["method_registry"].items():
            if "variant" in entry:
                found.require(entry["variant"], config["variants"], f"method_registry: {name}: variant")
        for where, method, key, _ in (of_sweep for entries in _entries(config).values() for of_sweep in entries):
            if found.require(method, config["method_registry"], where):
                _check_swept(config, method, key, where, found)
    with collected() as found:
        registered: dict[str, dict[str, Swept]] = {}
        for sweep, entries in _entries(config).items():
            own = registered[sweep] = {}
            for where, method, key, values in entries:
                for value in values:
                    name = _register(config, method, key, value, where, found)
                    if name in own:
                        what = f"two values of {key} both give the name {name}"
                        found.add(f"{where}: {what}, because they differ only after the sixth digit")
                    own[name] = {"method": method, "key": key, "value": f"{value:g}"}
    return registered


def _entries(config: Mapping[str, Any]) -> dict[str, list[tuple[str, str, str, list[float]]]]:
    """What each sweep varies: the key of the config that names the method, method, key, values."""
    sweeps = {
        name: [(f"sweeps: {name}: method", entry["method"], entry["key"], entry["values"])]
        for name, entry in config["sweeps"].items()
    }
    rates = config[TUNING]["learning_rates"]
    sweeps[TUNING] = [(f"{TUNING}: methods", method, "learning_rate", rates) for method in config[TUNING]["methods"]]
    return sweeps


def _check_swept(config: Mapping[str, Any], method: str, key: str, where: str, found: Refusals) -> None:
    entry = config["method_registry"][method]
    if entry["objective"] == UNTRAINED:
        found.add(f"{where} has {method!r}, which trains nothing")
    elif key == "beta":
        if not reads_scores(entry):
            found.add(f"{where} has {method!r}, which reads no contrastive scores, so beta has no effect on it")
    elif entry["objective"] in REGISTRY:
        for sentence in check_key(config, entry, key):
            found.add(f"{where} has {method!r}: {sentence}")


def _register(config: dict[str, Any], method: str, key: str, value: float, where: str, found: Refusals) -> str:
    """Register the method of one value of a sweep, and its variant for beta; returns its name."""
    entry = config["method_registry"][method]
    setting = f"{_SHORT.get(key, key)}{value:g}"
    own: dict[str, float | str] = {key: value}
    if key == "beta":
        inherited = entry.get("variant")
        variant = f"{inherited}-{setting}" if inherited else setting
        _put(config, "variants", variant, config["variants"].get(inherited, {}) | own, where, found)
        own = {"variant": variant}
    name = f"{method}-{setting}"
    _put(config, "method_registry", name, entry | own, where, found)
    return name


def _put(
    config: dict[str, Any], registry: str, name: str, entry: Mapping[str, Any], where: str, found: Refusals
) -> None:
    """Register an entry; it is a mistake if the registry has a different one of that name.

    Two sweeps may register the same entry.
    """
    known = config[registry].setdefault(name, entry)
    if known != entry:
        what = f"but {registry} already has a different {name}; give that one another name"
        found.add(f"{where}: registers {name}, {what}")
