"""Training examples from the tables of selected answers and pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from critical_tokens.core.records import ArtifactError, Row
from critical_tokens.data.prompts import Prompt, prompts_by_problem, with_eos
from critical_tokens.training.alignment import answer_example, pair_example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
