"""LoRA adapters on a base model: which layers may have one, and how randomness is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from critical_tokens.core.records import Failure

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel

ALL_LINEAR = "all-linear"
# The config keys that set the layers; messages name them.
KEYS = "contrast.lora.layers or the model's contrast_layers, and alignment.lora.layers for the methods"
# Parts of the names of settings that make a model random in training: dropout of any kind, layers
# that are left out at random, and router jitter.
_RANDOM = ("drop", "jitter")


@dataclass(frozen=True)
class Lora:
    """The settings of an adapter.

    rank, alpha, dropout: as LoRA defines them.
    layers: the linear layers that are adapted, as a list of names or "all-linear".
    """

    rank: int
    alpha: int
    dropout: float
    layers: str | tuple[str, ...]


def linear_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The linear layers of a model by full name, with GPT-2's Conv1D (of transposed weight)."""
    from transformers.pytorch_utils import Conv1D

    return {name: module for name, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D))}


def matched(layers: Sequence[str], names: Sequence[str]) -> list[str]:
    """The full names that end with the name of one of the layers; PEFT matches lists like this."""
    return [name for name in names if any(name == layer or name.endswith(f".{layer}") for layer in layers)]


def missing_layers(config: PreTrainedConfig, layers: str | Sequence[str]) -> tuple[list[str], list[str]]:
    """The `layers` that a model of this config lacks, and the names of its linear layers.

    The model is built without weights, so this takes seconds and little memory, whatever the size
    of the model.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return _missing(model, layers)


def check_layers(name: str, layers: Sequence[str], missing: Sequence[str], present: Sequence[str]) -> None:
    """Raise Failure, naming the config keys and the model's layers, where layers are missing."""
    if missing:
        raise Failure(
            f"lora.layers ({KEYS}) is {', '.join(layers)}, but {name} has no linear layer named {', '.join(missing)}; "
            f"it has {', '.join(present)}; name some of these, or write [{ALL_LINEAR}]"
        )


def _missing(model: torch.nn.Module, layers: str | Sequence[str]) -> tuple[list[str], list[str]]:
    names = list(linear_layers(model))
    asked = [] if isinstance(layers, str) else list(layers)
    return [layer for layer in asked if not matched([layer], names)], sorted(
        {name.rpartition(".")[2] for name in names}
    )


def add_adapter(model: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """The model with a new LoRA adapter.

    Only the adapter is trainable, and only its own dropout is random. Raises Failure where the
    model lacks a layer that `lora` names, or where such a layer cannot have an adapter.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    from critical_tokens.models import fused_lora

    if isinstance(lora.layers, str):
        if lora.layers != ALL_LINEAR:
            raise Failure(f"lora.layers ({KEYS}) is {lora.layers!r}, must be {ALL_LINEAR} or a list of layers' names")
        names = list(linear_layers(model))
    else:
        check_layers(type(model).__name__, lora.layers, *_missing(model, lora.layers))
        names = matched(lora.layers, list(linear_layers(model)))
    present = _missing(model, lora.layers)[1]
    transposed = any(isinstance(model.get_submodule(name), Conv1D) for name in names)
    remove_randomness(model)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.layers if isinstance(lora.layers, str) else list(lora.layers),
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
    )
    if model.dtype in fused_lora.HALF:
        config._register_custom_module({torch.nn.Linear: fused_lora.FusedLinear})
    try:
        adapted = get_peft_model(model, config)
        few_logits(adapted.eval())
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        named = lora.layers if isinstance(lora.layers, str) else ", ".join(lora.layers)
        raise Failure(
            f"lora.layers ({KEYS}) is {named}, but {type(model).__name__} cannot have such adapters "
            f"on all of these: {error}; its linear layers are {', '.join(present)}"
        ) from error
    return adapted


def remove_randomness(model: PreTrainedModel) -> None:
    """Set every dropout of a base model to 0, in its modules, their attributes and its configs.

    In preference training, policy and reference must be the same model at the start, and the
    reference must not change from batch to batch. Training on the likelihood has no dropout either,
    so that all methods differ in their objective alone. The paper's models and the pocket models
    have no dropout. Raises Failure where the model is still random in training.
    """
    for holder in (*model.modules(), *_configs(model.config)):
        if isinstance(holder, torch.nn.modules.dropout._DropoutNd):
            holder.p = 0.0
        for name, value in list(vars(holder).items()):
            if isinstance(value, float) and any(word in name for word in _RANDOM):
                setattr(holder, name, 0.0)
    if not _repeats(model):
        raise Failure(
            f"{type(model).__name__} gives other logits each time in training mode, although its dropout is set to 0; "
            "a model that is random in another way cannot be trained here"
        )


def _configs(config: Any) -> Iterator[Any]:
    """Yield a config and all configs within it."""
    yield config
    for value in list(vars(config).values()):
        if hasattr(value, "to_dict"):
            yield from _configs(value)


def _repeats(model: PreTrainedModel) -> bool:
    """Whether two passes in training mode give the same logits."""
    was_training = model.training
    with torch.random.fork_rng():  # the check does not change the random numbers of the training
        first, second = (few_logits(model.train()) for _ in range(2))
    model.train(was_training)
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def few_logits(model: PreTrainedModel | PeftModel) -> torch.Tensor:
    """The logits of a few tokens, in float32, of shape (1, 8, vocabulary).

    Where several processes share a model (FSDP), only one has loaded the weights. For the others,
    the result is an empty tensor.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return torch.empty(0)
    ids = torch.arange(3, 11, device=model.device).unsqueeze(0) % model.config.get_text_config().vocab_size
    return model(input_ids=ids, use_cache=False).logits.float()
