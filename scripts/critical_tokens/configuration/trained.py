"""Methods of the registry: where they start, and that every key which they carry is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from critical_tokens.configuration.refusals import Refusals, nearest
from critical_tokens.methods import OBJECTIVES, REGISTRY
from critical_tokens.token_weights import NEEDS

Config = Mapping[str, Any]
BASE, UNTRAINED, ALL_LINEAR = "base", "none", "all-linear"

# Keys that every training reads, and those that the two kinds of data add.
_ALWAYS = (
    "objective", "start", "learning_rate", "epochs", "batch_size", "accumulation", "schedule", "warmup_share", "weight_decay",
    "gradient_checkpointing", "checkpoint_updates", "lora",
)  # fmt: skip
_OF_DATA = {"answers": ("packing", "eos_trained", "held_out"), "pairs": ("variant",)}
_OF_WEIGHTS = ("weights", "eos_weight")


def check_methods(config: Config, found: Refusals) -> None:
    """Every method has an objective, starts from the base model in the end, and carries no key without effect."""
    registry = config["method_registry"]
    for name, entry in registry.items():
        where = f"method_registry: {name}: "
        if entry["objective"] not in (UNTRAINED, *OBJECTIVES):
            allowed = (UNTRAINED, *OBJECTIVES)
            what = f"is {entry['objective']!r}, must be one of {', '.join(allowed)}{nearest(entry['objective'], allowed)}"
            found.add(f"{where}objective {what}")
            continue
        _check_start(name, registry, found)
        if entry["objective"] == UNTRAINED and entry["start"] != BASE:
            found.add(f"{where}start is {entry['start']!r}, an untrained method starts from base")
        if entry.get("weights") == "base" and entry["start"] != BASE:
            found.add(f"{where}weights of kind base are those of a method that starts from base")
        _check_layers(entry.get("lora", {}), where, found)
        for key in entry:
            for sentence in check_key(config, entry, key):
                found.add(f"{where}{sentence}")
    for section in ("contrast", "alignment"):
        _check_layers(config[section]["lora"], f"{section}: ", found)
    if registry.get("baseline", {}).get("objective") != UNTRAINED:
        found.add("method_registry: baseline must have the objective none; figures compare with the base model by that name")


def check_key(config: Config, entry: Config, key: str) -> Iterator[str]:
    """What is wrong with a key that an entry of the registry carries: nothing where its method reads it."""
    objective = entry["objective"]
    if objective == UNTRAINED:
        if key not in ("objective", "start"):
            yield f"{key} has no effect, because the objective none trains nothing; it reads start only"
        return
    known = REGISTRY[objective]
    own = (*known.constants, *(_OF_WEIGHTS if known.weighted else ()), *_OF_DATA[known.data])
    if key not in (*_ALWAYS, *own):
        yield f"{key} has no effect on the objective {objective}, which reads {', '.join((*_ALWAYS[2:], *own))}"
        return
    settings = {**config["alignment"], **entry}
    if key == "tdpo_alpha" and settings["tdpo_variant"] == 1:
        yield "tdpo_alpha has no effect on variant 1 of TDPO; tdpo_variant: 2 reads it"
    if key == "warmup_share" and settings["schedule"] == "constant" and settings[key]:
        yield "warmup_share has no effect on the schedule constant; constant_with_warmup reads it"
    if key == "variant" and not reads_scores(entry) and "template" not in config["variants"].get(entry[key], {"template": ""}):
        what = "which reads no contrastive scores; it would read the template of a variant"
        yield f"variant {entry[key]!r} has no effect on the method, {what}"


def reads_scores(entry: Config) -> bool:
    """Whether a method weighs tokens by contrastive scores, which variants are other forms of."""
    known = REGISTRY.get(entry["objective"])
    return bool(known and known.weighted) and "contrast" in NEEDS[entry.get("weights", "contrast")]


def _check_layers(lora: Config, where: str, found: Refusals) -> None:
    layers = lora.get("layers", ())
    if ALL_LINEAR in layers and len(layers) > 1:
        found.add(f"{where}lora: layers has {ALL_LINEAR} beside other names; it stands alone, for all of them")


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
