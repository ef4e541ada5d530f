"""What is made for a selection or a study: its cells, and the runs of its methods with their seeds.

A cell is a model and a dataset. A run is a method with a seed in a cell. Both are mappings from
names to values, which the rules put into the patterns of their paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Names = dict[str, Any]

BASE = "base"
"""What a method starts from if it starts from no other method."""

UNTRAINED = "none"
"""The objective of a method that trains nothing."""


class Selections:
    """The cells and runs that a completed config asks for."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._methods = config["method_registry"]

    def seeds(self, method: str, seeds: Sequence[int]) -> Sequence[int]:
        """The training seeds of a method; a method without training has only the first."""
        return seeds if self._methods[method]["objective"] != UNTRAINED else seeds[:1]

    def cells(self, selection: Mapping[str, Any] | None = None) -> list[Names]:
        """The cells of a selection (by default of the config), each with its model and dataset."""
        chosen = self._config if selection is None else selection
        return [{"model": model, "dataset": dataset} for model in chosen["models"] for dataset in chosen["datasets"]]

    def runs(self, methods: Sequence[str], seeds: Sequence[int], cells: Sequence[Names]) -> list[Names]:
        """The runs of the methods in the cells, each with its model, dataset, method and seed."""
        return [
            cell | {"method": method, "seed": seed}
            for cell in cells
            for method in methods
            for seed in self.seeds(method, seeds)
        ]

    def comparison(self, study: str, swept: Mapping[str, Iterable[str]]) -> list[Names]:
        """The runs of a comparison: of its methods, and of those of its sweep (see `swept`)."""
        entry = self._config["studies"]["comparisons"][study]
        methods = [*entry["methods"], *swept.get(entry.get("sweep"), ())]
        return self.runs(methods, entry["seeds"], self.cells(entry))

    def temperatures(self) -> list[Names]:
        """The runs of the study of temperatures, each at every temperature."""
        entry = self._config["studies"]["temperatures"]
        runs = self.runs(entry["methods"], entry["seeds"], self.cells(entry))
        return [run | {"temperature": f"{value:g}"} for run in runs for value in entry["values"]]

    def replacements(self) -> list[Names]:
        """The selected cells with every distribution and seed of the study of replacements."""
        entry = self._config["studies"]["replacement"]
        return [
            cell | {"distribution": distribution, "seed": seed}
            for cell in self.cells()
            for distribution in entry["distributions"]
            for seed in entry["seeds"]
        ]

    def agreements(self) -> list[Names]:
        """The tables of the study of agreement: a model, a dataset and a suffix `scores` for each.

        The suffix follows "agreement" in the name of a table. It names a variant of the contrastive
        scores or a seed of the rollouts.
        """
        entry = self._config["studies"]["agreement"]
        variants = ["", *(f"-{name}" for name in entry["variants"])]
        names = [*variants, *(f"_rollouts{seed}" for seed in entry["rollout_seeds"])]
        return [cell | {"scores": name} for cell in self.cells(entry) for name in names]
