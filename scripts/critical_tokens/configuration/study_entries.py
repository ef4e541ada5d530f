"""Checks of the selections, the studies and the figures, which name registered entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from critical_tokens.objectives.registry import REGISTRY
from critical_tokens.workflow.refusals import Refusals
from critical_tokens.workflow.selections import UNTRAINED

Config = Mapping[str, Any]

# The registry that each key selects from.
_REGISTRIES = {"models": "model_registry", "datasets": "dataset_registry", "methods": "method_registry"}


def check_selections(config: Config, sweeps: Mapping[str, Collection[str]], found: Refusals) -> None:
    """Check that everything selected is registered, and that studies and figures can be made.

    sweeps: the methods that each sweep registered.
    """
    _require_selected(config, config, "", found)
    studies = config["studies"]
    for name, entry in studies["comparisons"].items():
        _check_comparison(config, sweeps, entry, f"studies: comparisons: {name}: ", found)
    _require_selected(config, studies["temperatures"], "studies: temperatures: ", found)
    _check_temperatures(studies["temperatures"]["values"], found)
    _require_selected(config, studies["agreement"], "studies: agreement: ", found)
    for name in studies["agreement"]["variants"]:
        found.require(name, config["variants"], "studies: agreement: variants")
    shared, examined = config["rollouts"]["shards"], config["rollouts"]["trajectories"]
    if examined is not None and shared > examined:
        found.add(f"rollouts: shards is {shared}, but there are only {examined} trajectories to divide among them")
    stratified = config["rollouts"]["stratified"]
    if stratified["zero_up_to"] >= stratified["later_below"]:
        what = f"must be below later_below, which is {stratified['later_below']}"
        found.add(f"rollouts: stratified: zero_up_to is {stratified['zero_up_to']}, {what}")
    _check_figures(config, found)
    _check_pretraining(config["pretraining"], found)


def _require_selected(config: Config, entry: Config, where: str, found: Refusals) -> None:
    for key, registry in _REGISTRIES.items():
        for name in entry.get(key, ()):
            found.require(name, config[registry], f"{where}{key}")


def _check_comparison(
    config: Config, sweeps: Mapping[str, Collection[str]], entry: Config, where: str, found: Refusals
) -> None:
    _require_selected(config, entry, where, found)
    swept: Collection[str] = ()
    if "sweep" in entry and found.require(entry["sweep"], config["sweeps"], f"{where}sweep"):
        swept = sweeps[entry["sweep"]]
    for name in (name for name in swept if name in entry["methods"]):
        found.add(f"{where}methods has {name!r}, which its sweep {entry['sweep']} also has; leave it out")
    compared = [*entry["methods"], *swept]
    if entry["against"] not in compared:
        found.add(f"{where}against is {entry['against']!r}, must be one of {', '.join(compared)}")


def _check_temperatures(temperatures: Sequence[float], found: Refusals) -> None:
    names: dict[str, float] = {}
    for value in temperatures:
        name = f"{value:g}"
        other = names.setdefault(name, value)
        if other != value:
            what = f"values has {other!r} and {value!r}, which differ only after the sixth digit"
            found.add(f"studies: temperatures: {what}")


def _check_figures(config: Config, found: Refusals) -> None:
    figures, methods = config["figures"], config["method_registry"]
    for key, selected in (("model", "models"), ("dataset", "datasets")):
        name = figures["figure1_cell"][key]
        if name not in config[selected]:
            allowed = f"it must be one of {selected} ({', '.join(config[selected])}), or null for the first of them"
            found.add(f"figures: figure1_cell: {key} is {name!r}, which is not selected; {allowed}")
    against = figures["figure5_method"]
    if found.require(against, methods, "figures: figure5_method") and methods[against]["objective"] == UNTRAINED:
        found.add(f"figures: figure5_method is {against!r}, which trains nothing; it must be a trained method")
    for name in figures["figure6_methods"]:
        known = found.require(name, methods, "figures: figure6_methods")
        objective = REGISTRY.get(methods[name]["objective"]) if known else None
        if known and (objective is None or objective.data != "pairs"):
            what = "which does not train on pairs; every method here must have a preference objective"
            found.add(f"figures: figure6_methods has {name!r}, {what}")


def _check_pretraining(entry: Config, found: Refusals) -> None:
    for name, shape in entry["shapes"].items():
        for key in ("documents", "learning_rate", "prompt_weight"):
            if name not in entry[key]:
                found.add(f"pretraining: {key} has no entry for {name}, which is among the shapes")
        if shape["width"] % shape["heads"]:
            what = f"width is {shape['width']}, must be a multiple of its {shape['heads']} heads"
            found.add(f"pretraining: shapes: {name}: {what}")
