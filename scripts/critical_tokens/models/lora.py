"""LoRA adapters on a base model: which layers may have one, and how randomness is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora.layer import Linear

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
# Types of weights whose adapted layers are computed by `FusedLinear`.
HALF = (torch.bfloat16, torch.float16)


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
    if model.dtype in HALF:
        config._register_custom_module({torch.nn.Linear: FusedLinear})
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


# --- adapted layers in half precision


class FusedLinear(Linear):
    """PEFT's linear layer with an adapter, computed by `_Product` where that is possible.

    PEFT computes the adapter's part as a tensor of its own, scales it, adds it, and converts the
    types of input and output. In training on a CPU, these passes over memory take longer than the
    products. Here the products add to the layer's output in place, and of the forward pass only the
    input and the adapter's inner activations are kept.
    """

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The layer's output, shape (…, output), for x of shape (…, input)."""
        base, active = self.get_base_layer(), self.active_adapters
        plain = not (args or kwargs or self.disable_adapters or self.merged or self.lora_variant)
        if not plain or len(active) != 1 or active[0] not in self.lora_A:
            return super().forward(x, *args, **kwargs)
        if x.dtype not in HALF or x.dtype != base.weight.dtype or base.weight.requires_grad:
            return super().forward(x)
        first, second = self.lora_A[active[0]], self.lora_B[active[0]]
        if first.bias is not None or second.bias is not None:
            return super().forward(x)
        dropout = self.lora_dropout[active[0]]
        given = x if isinstance(dropout, torch.nn.Identity) or not self.training else dropout(x)
        scale = float(self.scaling[active[0]])
        return _Product.apply(x, given, base.weight, base.bias, first.weight, second.weight, scale)


class _Product(torch.autograd.Function):
    """x W' + bias + scale (given A') B' and its gradients with respect to x, given, A and B.

    Shapes: x and given (…, input), W (output, input), A (rank, input), B (output, rank). A and B
    are converted to the type of x for the products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        given: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        first: torch.Tensor,
        second: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        inner = torch.nn.functional.linear(given, first.to(x.dtype))
        scaled = (scale * second).to(x.dtype)
        out = torch.nn.functional.linear(x, weight, bias)
        out.view(-1, out.shape[-1]).addmm_(inner.reshape(-1, inner.shape[-1]), scaled.T)
        ctx.save_for_backward(given, weight, inner, first, second)
        ctx.scale, ctx.apart = scale, given is not x
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        given, weight, inner, first, second = ctx.saved_tensors
        rows = lambda t: t.reshape(-1, t.shape[-1])  # noqa: E731
        flat = rows(grad)
        through = flat @ (ctx.scale * second).to(grad.dtype)
        of_second = ctx.scale * (flat.T @ rows(inner)).to(second.dtype)
        of_first = (through.T @ rows(given)).to(first.dtype)
        of_x = flat @ weight if ctx.needs_input_grad[0] else None
        of_given = None
        if ctx.apart:
            of_given = (through @ first.to(grad.dtype)).view(given.shape) if ctx.needs_input_grad[1] else None
        elif of_x is not None:
            of_x.addmm_(through, first.to(grad.dtype))
        of_x = None if of_x is None else of_x.view(given.shape)
        return of_x, of_given, None, None, of_first, of_second, None
