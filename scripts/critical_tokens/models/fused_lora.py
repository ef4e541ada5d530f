"""Linear layers with a LoRA adapter, in half precision: one pass over the layer's output.

PEFT computes the adapter's part as a tensor of its own, scales it, adds it and converts the type of
input and output. In training on a CPU these passes over memory take longer than the products. Here
the products add to the layer's output in place, and of the forward pass only the input and the
adapter's inner activations are kept.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear

HALF = (torch.bfloat16, torch.float16)


class FusedLinear(Linear):
    """PEFT's linear layer with an adapter, computed by `_Product` where that is possible."""

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
