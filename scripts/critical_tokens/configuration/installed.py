"""Packages that jobs import, looked for before any job starts, where rules have no environments of their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from critical_tokens.configuration.refusals import ConfigError
from critical_tokens.shots import ShotsError, from_task

Config = Mapping[str, Any]

# Imported by every run: training and sampling, grading, tables and figures.
_ALWAYS = ("torch", "transformers", "peft", "accelerate", "safetensors", "math_verify", "pandas", "matplotlib")
_OF_HUB = ("datasets", "huggingface_hub")


def check_packages(config: Config, model: str) -> None:
    """Raise ConfigError where the running Python lacks a package that jobs with this model import."""
    sources = [config["dataset_registry"][name].get("train", {}) for name in config["datasets"]]
    missing = _missing((*_ALWAYS, *(_OF_HUB if any("hub" in source for source in sources) else ())))
    if missing:
        what = "type `make environment`, or `pip install -r envs/requirements.txt`, or add --sdm conda"
        raise ConfigError(f"{', '.join(missing)}: not installed for {sys.executable}; {what}")
    if config["model_registry"][model].get("engine") == "vllm" and _missing(("vllm",)):
        what = "add --sdm conda, which makes the environment of envs/vllm.yaml, or set engine: transformers"
        raise ConfigError(f"model_registry: {model}: engine is vllm, which is not installed for {sys.executable}; {what}")


@lru_cache
def _missing(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if find_spec(name) is None]


def check_task(config: Config, dataset: str) -> None:
    """Raise ConfigError where lm-eval is missing, or its task has fewer worked examples than a dataset asks for."""
    shots = config["dataset_registry"][dataset].get("shots", {})
    if "task" not in shots:
        return
    try:
        there = len(from_task(shots["task"]))
    except ShotsError as error:
        raise ConfigError(f"dataset_registry: {dataset}: shots are of lm-eval's task {shots['task']}: {error}") from error
    if shots["count"] > there:
        what = f"count is {shots['count']}, but {shots['task']} has {there} examples"
        raise ConfigError(f"dataset_registry: {dataset}: shots: {what}")
