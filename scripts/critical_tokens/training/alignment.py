"""Examples, batches and objectives of the methods of Table 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from critical_tokens.core.records import ArtifactError, Row
from critical_tokens.data.prompts import Prompt, prompts_by_problem, with_eos
from critical_tokens.objectives import losses, packing
from critical_tokens.objectives.packing import Batch, PackedForward, by_answer
from critical_tokens.objectives.registry import Compared, Likelihood, Method, Preference, entry_of
from critical_tokens.training.likelihood import (
    Objective,
    PackedLikelihood,
    collate_packed,
    collate_weighted,
    first_wanted,
    nll_objective,
    pad,
    predictions,
)
from critical_tokens.training.updates import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# --- examples from the tables of selected answers and pairs


def answer_examples(
    tokenizer: PreTrainedTokenizerBase,
    answered: Sequence[Row],
    problems: Sequence[Row],
    prompt: Prompt,
    eos_trained: bool = True,
    held_out: int = 0,
) -> list[dict[str, Any]]:
    """Examples for the negative log-likelihood, from rows of the table "answers".

    eos_trained: whether finished answers end with EOS.
    held_out: number of answers at the end of the table that are left out.

    The released code trains without EOS and leaves answers out (train_sft.py:32 and 37-39).
    """
    answered = answered[: len(answered) - held_out] if held_out else answered
    encoded = prompts_by_problem(tokenizer, answered, problems, prompt)
    eos = tokenizer.eos_token_id
    return [
        answer_example(
            encoded[r["problem_id"]], with_eos(r["token_ids"], r["finished"] and eos_trained, eos), r["problem_id"]
        )
        for r in answered
    ]


def pair_examples(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Row],
    problems: Sequence[Row],
    prompt: Prompt,
    reference: Sequence[Row] | None,
    weights: Callable[[Row, int], list[float]] | None,
) -> list[dict[str, Any]]:
    """Examples for a preference objective, from rows of the table "pairs".

    reference: rows of the table "reference"; None if the objective runs the reference model.
    weights: the function from a pair and the number of its rejected tokens to their weights; None
    if the objective does not weigh them.

    Raises ArtifactError, naming the problem, if the reference has no row for a pair or has other
    numbers of tokens.
    """
    encoded = prompts_by_problem(tokenizer, pairs, problems, prompt)
    references = {r["problem_id"]: (r["chosen_logps"], r["rejected_logps"]) for r in reference or ()}
    eos = tokenizer.eos_token_id
    examples = []
    for pair in pairs:
        chosen = with_eos(pair["chosen"], pair["chosen_finished"], eos)
        rejected = with_eos(pair["rejected"], pair["rejected_finished"], eos)
        stored = references.get(pair["problem_id"])
        if reference is not None and (stored is None or tuple(map(len, stored)) != (len(chosen), len(rejected))):
            raise ArtifactError(f"reference: has no log-probabilities of the answers to problem {pair['problem_id']}")
        own = weights(pair, len(rejected)) if weights is not None else None
        examples.append(pair_example(encoded[pair["problem_id"]], chosen, rejected, stored, own, pair["problem_id"]))
    return examples


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


# --- batches and objectives


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

    return {
        "input_ids": pad(ids, 0, torch.long),
        "attention_mask": pad([[1] * len(i) for i in ids], 0, torch.long),
        "answer_mask": aligned([[1.0] * len(e["answers"][side]) for e, side in rows]),
        "reference": aligned([e["references"][side] for e, side in rows]),
        "weights": aligned([e["weights"][side] for e, side in rows]),
        **_counts(examples),
    }


def collate_packed_pairs(examples: list[Mapping[str, Any]]) -> Batch:
    """The same pairs as one row without padding, see packing.pack, each prompt once.

    reference, weights, mask: of each label, shape (M,); the mask is 1 everywhere.
    pairs, tokens, columns: as in `collate_pairs`.
    """
    of_labels = lambda key: torch.tensor([v for e in examples for side in e[key] for v in side])  # noqa: E731
    weights = of_labels("weights")
    return {
        **packing.pack([(e["prompt"], e["answers"]) for e in examples]),
        "reference": of_labels("references"),
        "weights": weights,
        "mask": torch.ones_like(weights),
        **_counts(examples),
    }


def _counts(examples: Sequence[Mapping[str, Any]]) -> Batch:
    chosen = [len(e["answers"][0]) for e in examples]
    return {
        "pairs": count(sum(length > 0 for length in chosen)),
        "tokens": count(sum(chosen)),
        "columns": count(max(len(e["prompt"]) + len(answer) for e in examples for answer in e["answers"])),
    }


def objective_of(method: Method, packed: bool = False) -> tuple[Objective, Any]:
    """The objective of a method, and the collator that makes batches of its examples.

    packed: put the answers of a batch into one row without padding, see packing.pack.
    """
    entry = entry_of(method.objective)
    if isinstance(entry, Likelihood):
        return (PackedLikelihood(), collate_packed) if packed else (nll_objective, collate_weighted)
    if packed:
        return PackedPreference(entry, method), collate_packed_pairs
    return lambda model, batch: _preference(entry, method, model, batch), collate_pairs


def _preference(entry: Preference, method: Method, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    first = first_wanted(batch["answer_mask"])
    mask, reference, weights = (batch[key][:, first:] for key in ("answer_mask", "reference", "weights"))
    labels = batch["input_ids"][:, 1 + first :]
    logits, own_reference = predictions(model, batch, first), None
    if entry.reference == "model":
        with _reference_model(model):
            reference_logits = predictions(model, batch, first)
        reference, own_reference = losses.token_logps(reference_logits, labels), lambda: reference_logits
    logps = losses.token_logps(logits, labels)
    return _compared(entry, method, batch, logps, reference, mask, weights, lambda: logits, own_reference)


class PackedPreference:
    """The loss and the numbers of a preference objective, for batches from `collate_packed_pairs`.

    The columns of the objective's tensors are the answers alone, without their prompts.
    """

    def __init__(self, entry: Preference, method: Method) -> None:
        self._entry, self._method, self._forward = entry, method, PackedForward()

    def __call__(self, model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and numbers of a batch."""

        def sides(values: torch.Tensor) -> torch.Tensor:
            # In the row, the two answers of a pair are neighbours.
            both = by_answer(values, batch)
            return torch.cat([both[0::2], both[1::2]])

        found, own_reference = self._forward(model, batch), None
        reference = batch["reference"]
        if self._entry.reference == "model":
            with _reference_model(model):
                other = self._forward(model, batch)
                reference = other.token_logps(batch["labels"])
            own_reference = lambda: sides(other.logits())  # noqa: E731
        logps = found.token_logps(batch["labels"])
        mask, weights = sides(batch["mask"]), sides(batch["weights"])
        return _compared(
            self._entry, self._method, batch, sides(logps), sides(reference), mask, weights,
            lambda: sides(found.logits()), own_reference,
        )  # fmt: skip


@contextmanager
def _reference_model(model: Any) -> Iterator[None]:
    """The model is the reference within the block, and has no gradients."""
    # If several processes train, the model is wrapped, and its own methods are in `module`.
    with torch.no_grad(), getattr(model, "module", model).disable_adapter():
        yield


def _compared(
    entry: Preference,
    method: Method,
    batch: Batch,
    logps: torch.Tensor,
    reference: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    policy: Callable[[], torch.Tensor],
    own_reference: Callable[[], torch.Tensor] | None,
) -> tuple[torch.Tensor, dict[str, float]]:
    compared = Compared(
        method.constants, logps, reference, mask, weights, policy, own_reference,
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
