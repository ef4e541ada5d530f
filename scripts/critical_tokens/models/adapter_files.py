"""Checks of adapter files, which may come from anywhere, before PEFT reads them.

PEFT trusts the config of an adapter:
- it matches texts of the config as regular expressions,
- it imports modules that the config names,
- it allocates tensors of any rank that the config names,
- it leaves layers unchanged that have no tensors in the file.

So only adapters as this project writes them are accepted: plain LoRA on a list of layers, with
tensors for each of these layers, and with finite numbers.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from critical_tokens.core import records
from critical_tokens.models.lora import ALL_LINEAR

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedConfig

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_LARGEST_CONFIG = 1 << 20  # bytes
_MANY = 1 << 16  # no real adapter has more layers or a larger rank


def check(adapter: Path, config: PreTrainedConfig) -> None:
    """Check whether an adapter fits a base model with this config.

    adapter: the path of its adapter_model.safetensors; adapter_config.json lies beside it.

    Raises ArtifactError, naming the file, where the two files are not a complete LoRA adapter for
    that model.
    """
    if adapter.name != WEIGHTS:
        raise records.ArtifactError(f"{adapter}: an adapter's file is called {WEIGHTS}")
    settings = _settings(adapter.with_name(CONFIG))
    expected = _expected(adapter.with_name(CONFIG), settings, config)
    found = _tensors(adapter)
    for what, names in (("has no tensor", expected.keys() - found), ("has an unknown tensor", found.keys() - expected)):
        if names:
            raise records.ArtifactError(
                f"{adapter}: {what} {min(names)} ({len(names)} such): "
                f"it is incomplete, or was made for another base model than this {config.model_type}"
            )
    for name, shape in sorted(expected.items()):
        if found[name] != shape:
            raise records.ArtifactError(
                f"{adapter}: {name} has the shape {list(found[name])}, must have {list(shape)} for this base model"
            )
    _check_numbers(adapter)


def _settings(path: Path) -> dict[str, Any]:
    """The LoRA settings of an adapter_config.json.

    Raises ArtifactError where a setting in `_allowed` has a value that is not allowed, or where
    another setting differs from PEFT's default.
    """
    from peft import LoraConfig

    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise records.ArtifactError(f"{path}: is larger than any adapter's settings")
        found = records.read_json(path)
    except OSError as error:
        raise records.ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise records.ArtifactError(f"{path}: is nested too deeply") from error
    if not isinstance(found, dict):
        raise records.ArtifactError(f"{path}: is no JSON object of settings")
    for name, allowed in _allowed().items():
        if name not in found or not allowed(found[name]):
            raise records.ArtifactError(
                f"{path}: {name} is {_shown(found.get(name))}, which no adapter of this project has"
            )
    usual = json.loads(json.dumps(LoraConfig().to_dict()))
    for name in found.keys() - _allowed().keys():
        # A setting that this version of PEFT does not know is refused only if it is in use.
        if found[name] != usual.get(name) and (name in usual or found[name]):
            raise records.ArtifactError(
                f"{path}: {name} is {_shown(found[name])}, which is not supported; plain LoRA is"
            )
    return found


def _allowed() -> dict[str, Any]:
    """The settings in which adapters may differ, each with a check of its value.

    No allowed value makes PEFT match a text of the file as a regular expression.
    """

    def text(value: Any) -> bool:
        return value is None or isinstance(value, str)

    def number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

    def names(value: Any) -> bool:
        listed = isinstance(value, list) and 0 < len(value) <= _MANY
        return value == ALL_LINEAR or (listed and all(isinstance(name, str) and name for name in value))

    def patterns(value: Any) -> bool:
        # PEFT itself writes patterns for mixtures of experts, where one tensor holds all experts.
        # These patterns are harmless: they allow any prefix before a plain name.
        return isinstance(value, dict) and all(
            key[:4] == ".*\\." and key[4:].isidentifier() and number(size) and 0 < size <= _MANY
            for key, size in value.items()
        )

    return {
        "peft_type": lambda value: value == "LORA",
        "task_type": lambda value: value in ("CAUSAL_LM", None),
        "r": lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MANY,
        "lora_alpha": number,
        "lora_dropout": lambda value: number(value) and 0 <= value < 1,
        "target_modules": names,
        "target_parameters": lambda value: value is None or names(value),
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "fan_in_fan_out": lambda value: isinstance(value, bool),
        "use_rslora": lambda value: isinstance(value, bool),
        "init_lora_weights": lambda value: isinstance(value, bool),
        "inference_mode": lambda value: isinstance(value, bool),
        "base_model_name_or_path": text,
        "revision": text,
        "peft_version": text,
    }


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _expected(path: Path, settings: dict[str, Any], config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that PEFT would read, found with a model without weights."""
    from peft import get_peft_model, get_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    try:
        adapted = get_peft_model(model, lora_config(settings), low_cpu_mem_usage=True)
    except (ValueError, TypeError, NotImplementedError) as error:
        what = f"cannot be put on this {config.model_type}: it is for another base model"
        raise records.ArtifactError(f"{path}: {what} ({str(error)[:200]})") from error
    return {name: tuple(value.shape) for name, value in get_peft_model_state_dict(adapted).items()}


def lora_config(settings: dict[str, Any]) -> LoraConfig:
    """PEFT's config with the checked settings and nothing else."""
    from peft import LoraConfig

    own = {name: settings[name] for name in _allowed() if name not in ("peft_type", "peft_version", "revision")}
    return LoraConfig(**own)


def _tensors(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an adapter's tensors, from the header of its file."""
    with _opened(adapter) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _check_numbers(adapter: Path) -> None:
    with _opened(adapter) as file:
        for name in file.keys():  # noqa: SIM118
            value = file.get_tensor(name)
            if not value.is_floating_point():
                raise records.ArtifactError(f"{adapter}: {name} holds {value.dtype}, must hold floating-point numbers")
            if not torch.isfinite(value.float()).all():
                raise records.ArtifactError(
                    f"{adapter}: {name} holds numbers that are not finite; train the adapter again"
                )


def _opened(adapter: Path) -> safe_open:
    try:
        return safe_open(adapter, framework="pt")
    except (OSError, SafetensorError) as error:
        raise records.ArtifactError(f"{adapter}: is not a complete safetensors file ({error})") from error
