"""Names that the config registers become names of files and folders, and must not be those of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critical_tokens.configuration.refusals import Refusals

# Folders of the workflow's own: of <results>, of a cell, and where presets put theirs; `base` is where methods start.
_FOLDERS = (
    "base", "checked", "critical", "data", "hub", "packages", "positive", "negative", "pretrained", "released", "replacements",
    "rollouts", "shards", "smoke", "studies",
)  # fmt: skip
# Other names that are taken, by registry: of studies, of the search over learning rates, of the scores without a variant.
_TAKEN = {
    "studies": ("agreement", "critical_rule", "replacement", "temperatures"),
    "sweeps": ("tuning",),
    "variants": ("default",),
}
_REGISTRIES = ("model_registry", "dataset_registry", "method_registry", "variants", "sweeps", "studies")
# Tables and figures lie beside the folders of models and methods.
_ENDINGS = (".csv", ".json", ".log", ".md", ".parquet", ".pdf", ".png", ".safetensors", ".tar", ".tsv")


def check_names(config: Mapping[str, Any], found: Refusals) -> None:
    """Every registered name is free, and different from the others of its registry on every disk."""
    for registry in _REGISTRIES:
        taken = _TAKEN.get(registry, _FOLDERS)
        folded: dict[str, str] = {}
        for name in config[registry]:
            where = f"{registry}: {name!r}"
            if name.lower() in taken:
                found.add(f"{where} is a name of the workflow's own; taken are {', '.join(taken)}")
            if name.lower().endswith(_ENDINGS):
                found.add(f"{where} ends like a file ({', '.join(_ENDINGS)}); give it another name")
            if registry == "method_registry" and name.startswith(("positive-", "negative-")):
                found.add(f"{where} begins like the contrastive models of a variant; give it another name")
            other = folded.setdefault(name.lower(), name)
            if other != name:
                found.add(f"{where} and {other!r} differ in capital letters only, which some disks do not tell apart")
