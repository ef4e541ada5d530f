"""What the tokens of a rejected answer weigh in cDPO, and in the controls that ask whether
contrastive estimation matters.

The paper weighs token t by 1 - s_t, s_t the contrastive score. Every kind here gives numbers in [0,
1], one for each token, so that a control differs from cDPO in nothing but where its weights come
from.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from critical_tokens.core.records import Row

KINDS = ("contrast", "shuffled", "mean", "base", "positive", "negative", "rollouts")
"""contrast: 1 - s_t, the paper's. shuffled: the same numbers in random order within each answer.
mean: their mean, at every token. base, positive: 1 - p(y_t) under the base or the positive model
alone. negative: p(y_t) under the negative model alone. rollouts: 1 - the rollout score behind token
t, cut to [0, 1], which contrastive scores stand in for."""

NEEDS = {
    "contrast": ("contrast",),
    "shuffled": ("contrast",),
    "mean": ("contrast",),
    "positive": ("contrast",),
    "negative": ("contrast",),
    "base": ("reference",),
    "rollouts": ("rollouts",),
}
"""The tables that a kind is made from."""


def rejected_weights(
    kind: str, pair: Row, tables: Mapping[str, Mapping[str, Row | Sequence[Row]]], length: int, seed: int
) -> list[float]:
    """Weights of the `length` trained tokens (EOS included, where it is) of a pair's rejected
    answer.

    tables: rows by problem id of the tables that NEEDS names; of rollouts, a list of scores. Raises
    ArtifactError where the pair has no row, or one of another length.
    """
    from critical_tokens.core.records import ArtifactError

    rows = {name: tables[name].get(pair["problem_id"]) for name in NEEDS[kind]}
    if kind == "rollouts" and not pair["rejected"]:
        return [1.0] * length  # an answer that ended before it began has no rollouts: its EOS weighs as after a failure
    for name, row in rows.items():
        if row is None:
            raise ArtifactError(f"{name}: has nothing on problem {pair['problem_id']}")
    if kind in ("positive", "negative") and rows["contrast"][f"{kind}_logps"] is None:
        raise ArtifactError(
            f"contrast: has no log-probabilities for weights of kind {kind}; the authors' scores have none"
        )
    if kind == "base":
        weights = [1 - math.exp(logp) for logp in rows["reference"]["rejected_logps"]]
    elif kind == "positive":
        weights = [1 - math.exp(logp) for logp in rows["contrast"]["positive_logps"]]
    elif kind == "negative":
        weights = [math.exp(logp) for logp in rows["contrast"]["negative_logps"]]
    elif kind == "rollouts":
        scores = {row["position"]: min(max(row["score"], 0.0), 1.0) for row in rows["rollouts"]}
        # Behind EOS stands what stands before it: the finished answer.
        weights = [1 - scores.get(t, scores[max(scores)]) for t in range(length)]
    else:
        weights = [1 - score for score in rows["contrast"]["scores"]]
        if kind == "shuffled":
            random.Random(f"{seed}/shuffled/{pair['problem_id']}").shuffle(weights)
        elif kind == "mean":
            weights = [sum(weights) / len(weights)] * len(weights)
    if len(weights) != length:
        raise ArtifactError(f"{pair['problem_id']}: {len(weights)} weights of kind {kind} for {length} tokens")
    return weights
