"""All checks of the config in their order, and the defaults that it is completed with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from critical_tokens.configuration import dataset_entries, method_entries, model_entries, names, schema, study_entries
from critical_tokens.configuration.files import COMMAND_LINE, Layer
from critical_tokens.objectives import registry
from critical_tokens.workflow.refusals import collected

_SCHEMA = Path("rules", "schemas", "config.schema.yaml")


def complete(
    config: dict[str, Any], layers: Iterable[Layer], project: Path
) -> dict[str, dict[str, method_entries.Swept]]:
    """Check a config and complete it in place; returns the methods of each sweep.

    The result has the methods by the name of the sweep and their own name. Missing constants get
    their defaults, paths are resolved, and the methods of the sweeps are registered.

    config: the config as Snakemake merged it.
    layers: what each file and the command line say, with the command line last.
    project: the folder of the workflow.

    Raises ConfigError with all mistakes that the same step finds. Files are not read; whether they
    exist matters only for relative paths. `check_folders` checks what is in them.
    """
    layers = list(layers)
    own = schema.read_schema(project / _SCHEMA)
    for layer in layers:
        if layer.name == COMMAND_LINE:
            _override(config, schema.read_again(layer.content, own))
    schema.validate(config, own)
    with collected() as found:
        names.expand_paths(config, found)
        names.check_names(config, found)
        dataset_entries.check_sources(layers, found)
    names.locate_files(config, project)
    model_entries.place_conversions(config)
    _add_constants(config)
    _choose_example(config)
    registered = method_entries.register_sweeps(config)
    with collected() as found:
        study_entries.check_selections(config, registered, found)
        model_entries.check_models(config, found)
        dataset_entries.check_datasets(config, found)
        method_entries.check_methods(config, found)
    return registered


def check_folders(config: Mapping[str, Any]) -> None:
    """Check that the folders of selected models and the files of selected datasets are complete.

    Raises ConfigError with everything that is missing or wrong.
    """
    with collected() as found:
        model_entries.check_folders(config, found)
        dataset_entries.check_files(config, found)


def _override(config: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Replace values of a config in place, as Snakemake merges files.

    Mappings are merged key by key; any other value is replaced as a whole.
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            _override(config[key], value)
        else:
            config[key] = value


def _add_constants(config: dict[str, Any]) -> None:
    """Give the constants of objectives that `alignment` does not have their defaults."""
    for name, constant in registry.all_constants().items():
        config["alignment"].setdefault(name, constant.default)


def _choose_example(config: dict[str, Any]) -> None:
    """Let Figure 1 show the first selected cell, unless the config names one."""
    example = config["figures"]["figure1_cell"]
    for key, selected in (("model", "models"), ("dataset", "datasets")):
        if example[key] is None:
            example[key] = config[selected][0]
