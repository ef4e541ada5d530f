"""The lines about the settings in force, and the preset for models of a user's own."""

import copy

import yaml
from conftest import ROOT

from critical_tokens.workflow import briefing


def loaded(name):
    return yaml.safe_load((ROOT / name).read_text())


def merged(base, *changes):
    """As Snakemake merges config files: mappings are merged, anything else is replaced."""
    result = copy.deepcopy(base)
    for change in changes:
        for key, value in change.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


SHIPPED = loaded("config.yaml")
MINE = {"models": ["pocket-s", "mine"], "model_registry": {"mine": {"path": "mine"}}}


def test_shipped_models_are_not_spoken_of():
    assert briefing.lines(SHIPPED, SHIPPED) == []


def test_each_model_of_ones_own_has_a_line_and_the_pocket_rates_a_warning():
    told = briefing.lines(merged(SHIPPED, MINE), SHIPPED)
    assert told[0].startswith(
        "mine: 300 train problems x 16 answers at temperature 1; few-shot prompts: none; learning rates: contrast 0.001, sft"
    )
    assert told[1].startswith("learning rates of contrast and alignment are those of config.yaml")
    assert len(told) == 2


def test_the_warning_names_what_is_still_the_pocket_models():
    told = briefing.lines(merged(SHIPPED, MINE, {"contrast": {"learning_rate": 3.0e-4}}), SHIPPED)
    assert told[1].startswith("learning rates of alignment are")


def test_temperatures_by_dataset_and_settings_of_methods_are_told():
    own = {
        "model_registry": {"mine": {"temperatures": {"gsm8k": 0.5}}},
        "datasets": ["gsm8k", "math"],
        "methods": ["baseline", "dpo"],
    }
    (line, _) = briefing.lines(merged(SHIPPED, MINE, own), SHIPPED)
    assert "at temperature 0.5 (gsm8k), 1 (math)" in line
    assert "contrast 0.001, dpo 0.0002; gamma 0.5" in line


def test_the_preset_for_ones_own_model_has_the_papers_settings():
    """What it and the preset of the paper's scale both state is the same, but for what models and
    clusters decide.
    """
    own, paper = loaded("presets/own.yaml"), loaded("presets/paper.yaml")
    assert paper["figures"].pop("figure6_window") == own["figures"].pop("figure6_window")
    paper["datasets"], paper["figures"] = own["datasets"], own["figures"]
    differences = [path for path, value in leaves(own) if (other := dig(paper, path)) is not None and other != value]
    assert differences == []
    assert {"learning_rate", "gamma"} <= set(own["alignment"])


def test_the_preset_sets_the_rate_of_every_method_that_has_one():
    rated = {name for name, entry in SHIPPED["method_registry"].items() if "learning_rate" in entry}
    own = loaded("presets/own.yaml")["method_registry"]
    assert {name for name, entry in own.items() if "learning_rate" in entry} == rated


def leaves(settings, path=()):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def dig(settings, path):
    for key in path:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings
