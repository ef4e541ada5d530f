"""From pairs and answers to batches and objectives: what the methods of Table 1 train on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from critical_tokens import objectives
from critical_tokens.training import (
    Batch,
    Objective,
    collate_packed,
    collate_weighted,
    first_wanted,
    nll_objective,
    pad,
    predictions,
    token_share,
)

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

OBJECTIVES = ("nll", "dpo", "rpo", "tdpo", "cdpo", "cdpo_released")
# Objectives that need the reference model's whole distributions, so run it along instead of reading stored log-probabilities.
NEEDS_REFERENCE_MODEL = ("tdpo",)
# Objectives that weigh the rejected answer's tokens by 1 - s_t.
NEEDS_WEIGHTS = ("cdpo", "cdpo_released")


@dataclass(frozen=True)
class Method:
    """An objective and its constants: gamma (DPO's beta), RPO's alpha, TDPO's variant and alpha."""

    objective: str
    gamma: float = 1.0
    rpo_alpha: float = 1.0
    tdpo_variant: int = 2
    tdpo_alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective is {self.objective!r}, must be one of {', '.join(OBJECTIVES)}")


@dataclass(frozen=True)
class Lora:
    """Adapter settings: rank, alpha, dropout and which linear layers ("all-linear" or a list of names)."""

    rank: int
    alpha: int
    dropout: float
    layers: str | tuple[str, ...]


def add_adapter(model: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """The model with a fresh LoRA adapter; only the adapter is trainable."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.layers if isinstance(lora.layers, str) else list(lora.layers),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def answer_example(prompt: Sequence[int], answer: Sequence[int]) -> dict[str, Any]:
    """An example for the negative log-likelihood of an answer (EOS included by the caller) given its prompt."""
    return {"input_ids": [*prompt, *answer], "weights": [0.0] * len(prompt) + [1.0] * len(answer)}


def pair_example(
    prompt: Sequence[int],
    chosen: Sequence[int],
    rejected: Sequence[int],
    reference: tuple[Sequence[float], Sequence[float]] | None = None,
    rejected_weights: Sequence[float] | None = None,
) -> dict[str, Any]:
    """An example for a preference objective. `reference`: log-probabilities of the two answers' tokens under the reference.

    Raises ValueError where reference or weights do not have one number per token.
    """
    chosen_reference, rejected_reference = reference or ([0.0] * len(chosen), [0.0] * len(rejected))
    weights = [1.0] * len(rejected) if rejected_weights is None else list(rejected_weights)
    lengths = (len(chosen_reference), len(rejected_reference), len(weights))
    if lengths != (len(chosen), len(rejected), len(rejected)):
        raise ValueError(
            f"{lengths} reference log-probabilities and weights for answers of {len(chosen)}, {len(rejected)} tokens"
        )
    return {
        "prompt": list(prompt),
        "answers": [list(chosen), list(rejected)],
        "references": [list(chosen_reference), list(rejected_reference)],
        "weights": [[1.0] * len(chosen), weights],
    }


def collate_pairs(examples: list[Mapping[str, Any]]) -> Batch:
    """Batch of pairs: the chosen rows, then their rejected partners.

    `input_ids`, `attention_mask` (2 pairs, tokens); aligned with the predicted tokens 1..: `answer_mask`, `reference`,
    `weights` (2 pairs, tokens - 1), zero outside the answers.
    """
    rows = [(e, side) for side in (0, 1) for e in examples]
    ids = [e["prompt"] + e["answers"][side] for e, side in rows]

    def aligned(values: list[list[float]]) -> torch.Tensor:
        shifted = [[0.0] * (len(e["prompt"]) - 1) + list(v) for (e, _), v in zip(rows, values, strict=True)]
        return pad(shifted, 0.0, torch.float32)

    return {
        "input_ids": pad(ids, 0, torch.long),
        "attention_mask": pad([[1] * len(i) for i in ids], 0, torch.long),
        "answer_mask": aligned([[1.0] * len(e["answers"][side]) for e, side in rows]),
        "reference": aligned([e["references"][side] for e, side in rows]),
        "weights": aligned([e["weights"][side] for e, side in rows]),
    }


def objective_of(method: Method, packing: bool = False) -> tuple[Objective, Any]:
    """The training objective of a method and the collator of its examples.

    `packing`: the answers of a batch in one row without padding, for the likelihood; pairs are padded.
    """
    if method.objective == "nll":
        return nll_objective, collate_packed if packing else collate_weighted
    return lambda model, batch: _preference(method, model, batch), collate_pairs


def _preference(method: Method, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    first = first_wanted(batch["answer_mask"])
    mask, reference, weights = (batch[key][:, first:] for key in ("answer_mask", "reference", "weights"))
    labels = batch["input_ids"][:, 1 + first :]
    logits = predictions(model, batch, first)
    logps = objectives.token_logps(logits, labels)
    pairs = len(labels) // 2
    reference_logits = None
    if method.objective in NEEDS_REFERENCE_MODEL:
        # Several processes wrap the model.
        with torch.no_grad(), getattr(model, "module", model).disable_adapter():
            reference_logits = predictions(model, batch, first)
        reference = objectives.token_logps(reference_logits, labels)

    plain = objectives.log_ratio(logps, reference, mask)
    chosen, rejected = plain[:pairs], plain[pairs:]
    if method.objective == "dpo":
        loss = objectives.dpo(chosen, rejected, method.gamma)
    elif method.objective == "rpo":
        nll = objectives.weighted_nll(logps[:pairs], mask[:pairs])
        loss = objectives.rpo(chosen, rejected, nll * token_share(mask[:pairs]), method.gamma, method.rpo_alpha)
    elif method.objective == "tdpo":
        divergence = objectives.sequential_kl(reference_logits, logits, mask)
        tdpo = objectives.TDPO(method.tdpo_variant, method.tdpo_alpha)
        loss = tdpo(chosen, rejected, divergence[:pairs], divergence[pairs:], method.gamma)
    elif method.objective == "cdpo":
        weighted = objectives.log_ratio(logps, reference, mask, weights)
        loss = objectives.dpo(weighted[:pairs], weighted[pairs:], method.gamma)
    else:
        by_token = objectives.cdpo_released(logps, reference, mask, weights, pairs, method.gamma)
        # The columns before the first answer, which were not computed, are in the released mean too: log 2 each.
        loss = (by_token.sum(-1) + first * math.log(2)) / (first + by_token.shape[-1])

    with torch.no_grad():
        totals = (logps * mask).sum(-1)
        numbers = {
            "chosen_logps": float(totals[:pairs].mean()),
            "rejected_logps": float(totals[pairs:].mean()),
            "preferred": float((chosen > rejected).float().mean()),
        }
    return loss.mean(), numbers
