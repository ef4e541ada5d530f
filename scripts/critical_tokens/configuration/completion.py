"""The config: read as it is written, checked before any job, and completed with the methods that
its sweeps stand for.
"""

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
    """Check a merged config, and write out what it leaves to be understood, in place; the methods
    of each sweep, by name.

    layers: what the files and the command line said, the command line last. project: the folder of
    the workflow. Raises ConfigError with all mistakes of a kind. Looks at no file but those of
    relative paths, see `check_folders`.
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
    """Folders of the selected models and files of the selected datasets are there, and hold what
    they should.

    Raises ConfigError with all that is missing.
    """
    with collected() as found:
        model_entries.check_folders(config, found)
        dataset_entries.check_files(config, found)


def _override(config: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Put values over those of a config as Snakemake merges files: mappings key by key, all else as
    a whole.
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            _override(config[key], value)
        else:
            config[key] = value


def _add_constants(config: dict[str, Any]) -> None:
    """Constants of objectives that `alignment` does not state have their defaults."""
    for name, constant in registry.all_constants().items():
        config["alignment"].setdefault(name, constant.default)


def _choose_example(config: dict[str, Any]) -> None:
    """The cell of Figure 1, where none is named: the first of the selection."""
    example = config["figures"]["figure1_cell"]
    for key, selected in (("model", "models"), ("dataset", "datasets")):
        if example[key] is None:
            example[key] = config[selected][0]
