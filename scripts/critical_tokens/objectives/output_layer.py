"""What a model predicts at chosen places, with as few logits in memory as possible.

The logits of a few hundred tokens over a vocabulary of 150,000 take more memory than the rest of
the model's activations. For most models they are the product of hidden states and the weight of the
output layer. Then the hidden states are kept, and logits exist for some tokens at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from critical_tokens.objectives import losses

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Bytes of the float32 logits that exist at a time.
_AT_A_TIME = 2**26


def unwrapped(model: Any) -> PreTrainedModel:
    """The model itself, without the classes that wrap it for adapters and for several processes."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


class Predictions:
    """The distributions of next tokens at M places of a batch.

    They are given by logits, shape (M, vocabulary), or by hidden states, shape (M, size), with the
    output layer that turns them into logits.
    """

    def __init__(self, values: torch.Tensor, layer: torch.nn.Linear | None) -> None:
        self._values, self._layer = values, layer

    def token_logps(self, labels: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the labels, shape (M,), float32."""
        if self._layer is None:
            return losses.token_logps(self._values, labels)
        hidden = self._values.to(self._layer.weight.dtype)
        return _TokenLogps.apply(hidden, self._layer.weight, self._layer.bias, labels)

    def logits(self) -> torch.Tensor:
        """All logits, shape (M, vocabulary); their gradient reaches the model."""
        return self._logits(self._values)

    def parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """The logits in parts, each with the places that it holds."""
        vocabulary = self._values.shape[-1] if self._layer is None else self._layer.out_features
        for places in _parts(len(self._values), vocabulary):
            yield places, self._logits(self._values[places])

    def _logits(self, values: torch.Tensor) -> torch.Tensor:
        return values if self._layer is None else self._layer(values.to(self._layer.weight.dtype))


def values_of(model: Any, inputs: Mapping[str, Any], keep: int | torch.Tensor, separate: bool) -> torch.Tensor:
    """The logits of a model's rows, or its last hidden states; shape (rows, kept, …).

    keep: which columns are kept, as transformers takes it: the number of the last columns, 0 for
    all, or their indices.
    separate: whether to return hidden states, see `is_separate`.
    """
    layer = output_layer(model) if separate else None
    with contextlib.nullcontext() if layer is None else _left_out(layer):
        return model(**inputs, logits_to_keep=keep).logits


def output_layer(model: Any) -> torch.nn.Linear | None:
    """The output layer of a model, if it is a plain linear layer without gradients, else None.

    If several processes share the model, no process may have the whole layer, so it is None then.
    """
    layer = unwrapped(model).get_output_embeddings()
    plain = type(layer) is torch.nn.Linear and not any(p.requires_grad for p in layer.parameters())
    shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    return layer if plain and not shared else None


@torch.no_grad()
def is_separate(model: Any, inputs: Mapping[str, Any]) -> bool:
    """Whether a model's logits are nothing but its output layer applied to its hidden states.

    It is tried on the inputs. Models that cap their logits fail. A model that scales them passes if
    the scale is a power of two: what `values_of` returns is scaled then, with the same logits.
    """
    layer = output_layer(model)
    if layer is None:
        return False
    expected = values_of(model, inputs, 0, False)
    hidden = values_of(model, inputs, 0, True)
    if hidden.shape[-1] != layer.in_features:
        return False
    return torch.equal(layer(hidden.to(layer.weight.dtype)).float(), expected.float())


@contextlib.contextmanager
def _left_out(layer: torch.nn.Module) -> Iterator[None]:
    """The layer returns its input within the block."""
    own = vars(layer).get("forward")
    vars(layer)["forward"] = lambda hidden: hidden
    try:
        yield
    finally:
        del vars(layer)["forward"]
        if own is not None:
            vars(layer)["forward"] = own


def _parts(count: int, vocabulary: int) -> Iterator[slice]:
    step = max(1, _AT_A_TIME // (4 * vocabulary))
    for start in range(0, count, step):
        yield slice(start, start + step)


class _TokenLogps(torch.autograd.Function):
    """losses.token_logps of the logits of hidden states, which exist for some tokens at a time.

    A log-probability depends on the hidden state of its own token alone. So its derivative by this
    state is computed together with it, from the same logits: the row of the output layer's weight
    that belongs to the label, minus the mean row under the predicted distribution.

    Shapes: hidden (M, size), weight (vocabulary, size), bias (vocabulary,), labels (M,).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor
    ) -> torch.Tensor:
        logps = torch.empty(len(hidden), device=hidden.device)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for places in _parts(len(hidden), len(weight)):
            logits = torch.nn.functional.linear(hidden[places], weight, bias).float()
            own = labels[places].unsqueeze(-1)
            normaliser = logits.logsumexp(-1, keepdim=True)
            logps[places] = (logits.gather(-1, own) - normaliser).squeeze(-1)
            if slopes is not None:
                # The label's 1 is subtracted before the product, because the difference of the two
                # rows would lose its digits where the model is nearly certain of the label.
                excess = logits.sub_(normaliser).exp_()
                excess.scatter_add_(-1, own, torch.full_like(own, -1.0, dtype=excess.dtype))
                slopes[places] = -(excess.to(weight.dtype) @ weight)
        ctx.save_for_backward(slopes)
        return logps

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return None if slopes is None else (grads[0].unsqueeze(-1) * slopes).to(slopes.dtype), None, None, None
