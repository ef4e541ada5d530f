"""Examples, batches and objectives of the methods of Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from critical_tokens.models.lora import Lora, add_adapter, check_layers, missing_layers
from critical_tokens.objectives import losses
from critical_tokens.objectives.registry import OBJECTIVES, Compared, Likelihood, Method, Preference, entry_of
from critical_tokens.training.packing import PackedLikelihood
from critical_tokens.training.trainer import (
    Batch,
    Objective,
    collate_packed,
    collate_weighted,
    first_wanted,
    nll_objective,
    pad,
    predictions,
)
from critical_tokens.training.updates import count

__all__ = [
    "OBJECTIVES",
    "Lora",
    "Method",
    "add_adapter",
    "answer_example",
    "check_layers",
    "collate_pairs",
    "missing_layers",
    "objective_of",
    "pair_example",
]


def answer_example(prompt: Sequence[int], answer: Sequence[int], problem_id: str | None = None) -> dict[str, Any]:
    """An example for the negative log-likelihood of an answer given its prompt.

    answer: token ids, with EOS if it is to be trained on.
    problem_id: how messages name the example.
    """
    example = {"input_ids": [*prompt, *answer], "weights": [0.0] * len(prompt) + [1.0] * len(answer)}
    return example | _named(problem_id)


def pair_example(
    prompt: Sequence[int],
    chosen: Sequence[int],
    rejected: Sequence[int],
    reference: tuple[Sequence[float], Sequence[float]] | None = None,
    rejected_weights: Sequence[float] | None = None,
    problem_id: str | None = None,
) -> dict[str, Any]:
    """An example for a preference objective.

    reference: log-probabilities of the chosen and the rejected tokens under the reference model;
    zeros if None.
    rejected_weights: weights of the rejected tokens; ones if None.
    problem_id: how messages name the example.

    Raises ValueError if reference or weights do not have one number per token.
    """
    chosen_reference, rejected_reference = reference or ([0.0] * len(chosen), [0.0] * len(rejected))
    weights = [1.0] * len(rejected) if rejected_weights is None else list(rejected_weights)
    lengths = (len(chosen_reference), len(rejected_reference), len(weights))
    if lengths != (len(chosen), len(rejected), len(rejected)):
        raise ValueError(
            f"{lengths} reference log-probabilities and weights for answers of {len(chosen)}, {len(rejected)} tokens"
        )
    example = {
        "prompt": list(prompt),
        "answers": [list(chosen), list(rejected)],
        "references": [list(chosen_reference), list(rejected_reference)],
        "weights": [[1.0] * len(chosen), weights],
    }
    return example | _named(problem_id)


def _named(problem_id: str | None) -> dict[str, str]:
    return {} if problem_id is None else {"problem_id": problem_id}


def collate_pairs(examples: list[Mapping[str, Any]]) -> Batch:
    """A batch of pairs: first the rows of all chosen answers, then those of the rejected ones.

    input_ids, attention_mask: shape (2 pairs, tokens).
    answer_mask, reference, weights: shape (2 pairs, tokens - 1), aligned with the predicted tokens,
    which are all but the first; zero outside the answers.
    pairs, tokens, columns: the number of pairs, of chosen tokens, and of tokens of the longest row,
    see updates.count.
    """
    rows = [(e, side) for side in (0, 1) for e in examples]
    ids = [e["prompt"] + e["answers"][side] for e, side in rows]

    def aligned(values: list[list[float]]) -> torch.Tensor:
        shifted = [[0.0] * (len(e["prompt"]) - 1) + list(v) for (e, _), v in zip(rows, values, strict=True)]
        return pad(shifted, 0.0, torch.float32)

    chosen = [len(e["answers"][0]) for e in examples]
    return {
        "input_ids": pad(ids, 0, torch.long),
        "attention_mask": pad([[1] * len(i) for i in ids], 0, torch.long),
        "answer_mask": aligned([[1.0] * len(e["answers"][side]) for e, side in rows]),
        "reference": aligned([e["references"][side] for e, side in rows]),
        "weights": aligned([e["weights"][side] for e, side in rows]),
        "pairs": count(sum(length > 0 for length in chosen)),
        "tokens": count(sum(chosen)),
        "columns": count(max(len(i) for i in ids)),
    }


def objective_of(method: Method, packing: bool = False) -> tuple[Objective, Any]:
    """The objective of a method, and the collator that makes batches of its examples.

    packing: put the answers of a batch into one row without padding. It applies to the likelihood
    only; batches of pairs are padded.
    """
    entry = entry_of(method.objective)
    if isinstance(entry, Likelihood):
        return (PackedLikelihood(), collate_packed) if packing else (nll_objective, collate_weighted)
    return lambda model, batch: _preference(entry, method, model, batch), collate_pairs


def _preference(entry: Preference, method: Method, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    first = first_wanted(batch["answer_mask"])
    mask, reference, weights = (batch[key][:, first:] for key in ("answer_mask", "reference", "weights"))
    labels = batch["input_ids"][:, 1 + first :]
    logits = predictions(model, batch, first)
    logps = losses.token_logps(logits, labels)
    reference_logits = None
    if entry.reference == "model":
        # If several processes train, the model is wrapped, and its own methods are in `module`.
        with torch.no_grad(), getattr(model, "module", model).disable_adapter():
            reference_logits = predictions(model, batch, first)
        reference = losses.token_logps(reference_logits, labels)
    compared = Compared(
        method.constants, logps, reference, mask, weights, logits, reference_logits,
        all_pairs=batch["pairs"], all_tokens=batch["tokens"], all_columns=batch["columns"],
    )  # fmt: skip
    loss = compared.mean(entry.losses(compared))

    with torch.no_grad():
        totals = (logps * mask).sum(-1)
        chosen, rejected = compared.ratios()
        numbers = {
            "chosen_logps": float(compared.mean(totals[: compared.pairs])),
            "rejected_logps": float(compared.mean(totals[compared.pairs :])),
            "accuracy": float(compared.mean((chosen > rejected).float())),
        }
    return loss, numbers
