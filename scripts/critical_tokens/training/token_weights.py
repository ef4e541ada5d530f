"""The registry of token weights: what each token of a rejected answer weighs in cDPO.

The paper weighs token t by 1 - s_t, where s_t is its contrastive score. The other kinds are
controls, which ask whether contrastive estimation matters. Every kind gives one number in [0, 1]
per token, so a control differs from cDPO only in where its weights come from.

A new kind is a function and an entry of TOKEN_WEIGHTS.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from critical_tokens.core.records import ArtifactError, Failure, Row

Tables = Mapping[str, Mapping[str, Any]]
"""Tables by name; each has the row of a problem (table "rollouts": its rows) by problem id."""


def _row(tables: Tables, name: str, pair: Row) -> Any:
    """What a table has on the problem of a pair. Raises ArtifactError where it has nothing."""
    row = tables[name].get(pair["problem_id"])
    if row is None:
        raise ArtifactError(f"{name}: has nothing on problem {pair['problem_id']}")
    return row


def _contrast(pair: Row, tables: Tables, length: int, seed: int) -> list[float]:
    return [1 - score for score in _row(tables, "contrast", pair)["scores"]]


def _shuffled(pair: Row, tables: Tables, length: int, seed: int) -> list[float]:
    weights = _contrast(pair, tables, length, seed)
    random.Random(f"{seed}/shuffled/{pair['problem_id']}").shuffle(weights)
    return weights


def _mean(pair: Row, tables: Tables, length: int, seed: int) -> list[float]:
    weights = _contrast(pair, tables, length, seed)
    return [sum(weights) / len(weights)] * len(weights)


def _base(pair: Row, tables: Tables, length: int, seed: int) -> list[float]:
    return [1 - math.exp(logp) for logp in _row(tables, "reference", pair)["rejected_logps"]]


def _positive(pair: Row, tables: Tables, length: int, seed: int) -> list[float]:
    return [1 - math.exp(logp) for logp in _contrast_logps(pair, tables, "positive")]


def _negative(pair: Row, tables: Tables, length: int, seed: int) -> list[float]:
    return [math.exp(logp) for logp in _contrast_logps(pair, tables, "negative")]


def _contrast_logps(pair: Row, tables: Tables, kind: str) -> list[float]:
    logps: list[float] | None = _row(tables, "contrast", pair)[f"{kind}_logps"]
    if logps is None:
        raise ArtifactError(
            f"contrast: has no log-probabilities for weights of kind {kind}; the authors' scores have none"
        )
    return logps


def _rollouts(pair: Row, tables: Tables, length: int, seed: int) -> list[float]:
    if not pair["rejected"]:
        # An answer without tokens has no rollouts. Its EOS weighs as much as after a score of 0.
        return [1.0] * length
    rows = _row(tables, "rollouts", pair)
    scores: dict[int, float] = {row["position"]: min(max(row["score"], 0.0), 1.0) for row in rows}
    # No rollout continues from EOS. It takes the score of the finished answer in front of it.
    return [1 - scores.get(t, scores[max(scores)]) for t in range(length)]


@dataclass(frozen=True)
class TokenWeights:
    """A kind of token weights.

    description: a phrase for help texts, schemas and docs.
    tables: the names of the tables that it is computed from.
    weights: the function of a pair, the tables, the number of trained tokens of the rejected answer
    (with EOS, if it has one) and the seed, which returns one weight per token.
    """

    description: str
    tables: tuple[str, ...]
    weights: Callable[[Row, Tables, int, int], list[float]]


TOKEN_WEIGHTS: dict[str, TokenWeights] = {
    "contrast": TokenWeights("1 - s_t, the paper's weights", ("contrast",), _contrast),
    "shuffled": TokenWeights("the weights of contrast in random order within each answer", ("contrast",), _shuffled),
    "mean": TokenWeights("the mean of an answer's weights of contrast, at every token", ("contrast",), _mean),
    "base": TokenWeights("1 - p(y_t) under the base model", ("reference",), _base),
    "positive": TokenWeights("1 - p(y_t) under the positive model alone", ("contrast",), _positive),
    "negative": TokenWeights("p(y_t) under the negative model alone", ("contrast",), _negative),
    "rollouts": TokenWeights(
        "1 - the rollout score behind token t, cut to [0, 1], which contrastive scores approximate",
        ("rollouts",),
        _rollouts,
    ),
}
"""The tables that each kind is computed from."""

EOS_WEIGHTS = {
    "scored": "the weight that the kind of token weights gives it",
    "one": "1, as if EOS were maximally critical (train_cdpo.py:138)",
}
"""What the EOS token of a rejected answer weighs."""


def entry_of(kind: str) -> TokenWeights:
    """The registry's entry of a kind. Raises Failure, listing the kinds, for an unknown one."""
    if kind not in TOKEN_WEIGHTS:
        raise Failure(f"weights are {kind!r}, must be one of {', '.join(TOKEN_WEIGHTS)}")
    return TOKEN_WEIGHTS[kind]


def rejected_weights(
    kind: str, pair: Row, tables: Tables, length: int, seed: int, eos_weight: str = "scored"
) -> list[float]:
    """Weights of the trained tokens of a pair's rejected answer, EOS included if it has one.

    tables: the tables that the kind needs, each by problem id.
    length: the number of trained tokens.
    eos_weight: a key of EOS_WEIGHTS.

    Raises ArtifactError where a table has nothing on the pair or has another number of tokens, and
    Failure for an unknown kind.
    """
    weights = entry_of(kind).weights(pair, tables, length, seed)
    if len(weights) != length:
        raise ArtifactError(f"{pair['problem_id']}: {len(weights)} weights of kind {kind} for {length} tokens")
    if eos_weight == "one" and pair["rejected_finished"]:
        weights[-1] = 1.0
    return weights
