"""Comparison of critical tokens with first wrong tokens and with contrastive scores.

This gives v3's Tables 1 and 2, and the AUC of contrastive scores.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from critical_tokens.core import records
from critical_tokens.reporting import estimates
from critical_tokens.rollouts import words


def kinds_rows(critical: Sequence[records.Row], word_kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """v3's Tables 1 and 2 in one table: a row for each kind of error, and one for all of them.

    critical: rows of the table "critical". Rows without a critical token or without a known first
        wrong token are left out.
    word_kinds: the kind of word of the critical token, by problem id (see `words.critical_kinds`).

    Columns of the result:
    error_kind: the kind of error; "total" for all kinds together.
    n: number of answers.
    differ: percentage of answers whose critical token is not their first wrong token.
    function, content, number, operator, punctuation: critical tokens of that kind of word.
    before, after: answers whose critical token is before or after their first wrong token.
    """
    known = [row for row in critical if row["position"] is not None and row["first_wrong"] is not None]
    rows = []
    for kind in [*dict.fromkeys(row["error_kind"] for row in sorted(known, key=lambda r: r["error_kind"])), "total"]:
        own = [row for row in known if kind in (row["error_kind"], "total")]
        differing = [row for row in own if row["position"] != row["first_wrong"]]
        before = sum(row["position"] < row["first_wrong"] for row in differing)
        of_words = [word_kinds[row["problem_id"]] for row in own]
        rows.append({
            "error_kind": kind,
            "n": len(own),
            "differ": 100 * len(differing) / len(own) if own else None,
            **{word: of_words.count(word) for word in words.KINDS},
            "before": before,
            "after": len(differing) - before,
        })  # fmt: skip
    return rows


def agreement_row(
    critical: Sequence[records.Row], contrast: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """How well contrastive scores agree with the rollouts and with the step checker in one cell.

    critical: rows of the table "critical".
    contrast: contrastive scores of the answer's tokens, by problem id.
    base: log-probabilities of the same tokens under the base model alone, by problem id. They are
        the control, because critical tokens are improbable, too.

    Keys of the result, each share and AUC with a 95 % interval (_low, _high):
    answers, with_critical_token: number of answers, and of those with a critical token.
    auc_contrast_rollouts, auc_base_rollouts: how well low scores find the critical token.
    auc_contrast_truth, auc_base_truth: how well low scores find the first wrong token.
    lowest_is_critical, lowest_is_first_wrong, lowest_at_or_before_first_wrong: where the token with
        the lowest contrastive score is.
    critical_is_first_wrong, critical_at_or_before_first_wrong: where the critical token is.

    Intervals of shares are Wilson's. For AUC whole answers are resampled, because the tokens of an
    answer are not independent.
    """
    found = [row for row in critical if row["position"] is not None]
    wrong = [row for row in critical if row["first_wrong"] is not None]
    known = [row for row in found if row["first_wrong"] is not None]
    lowest = {
        row["problem_id"]: min(range(row["length"]), key=contrast[row["problem_id"]].__getitem__) for row in critical
    }
    shares = {
        "lowest_is_critical": [lowest[r["problem_id"]] == r["position"] for r in found],
        "lowest_at_or_before_first_wrong": [lowest[r["problem_id"]] <= r["first_wrong"] for r in wrong],
        "lowest_is_first_wrong": [lowest[r["problem_id"]] == r["first_wrong"] for r in wrong],
        "critical_is_first_wrong": [r["position"] == r["first_wrong"] for r in known],
        "critical_at_or_before_first_wrong": [r["position"] <= r["first_wrong"] for r in known],
    }
    return {
        "answers": len(critical),
        "with_critical_token": len(found),
        **_separation("auc_contrast_rollouts", found, "position", contrast),
        **_separation("auc_contrast_truth", wrong, "first_wrong", contrast),
        **_separation("auc_base_rollouts", found, "position", base),
        **_separation("auc_base_truth", wrong, "first_wrong", base),
        **{key: value for name, verdicts in shares.items() for key, value in _share(name, verdicts).items()},
    }


def _separation(
    name: str, rows: Sequence[records.Row], key: str, scored: Mapping[str, Sequence[float]], resamples: int = 400
) -> dict[str, float | None]:
    """The AUC over the tokens of all answers, as in the paper, with its interval.

    The token whose index is row[`key`] is positive, and all other tokens are negative. The index
    may be that of EOS, which has no score; then all tokens of the answer are negative.
    """
    answers = []
    for row in rows:
        scores = [-score for score in scored[row["problem_id"]][: row["length"]]]
        inside = [score for t, score in enumerate(scores) if t == row[key]]
        answers.append((inside, [score for t, score in enumerate(scores) if t != row[key]]))

    def auc(of: Sequence[tuple[list[float], list[float]]]) -> float | None:
        return estimates.auc([s for inside, _ in of for s in inside], [s for _, outside in of for s in outside])

    rng = random.Random(f"{name}/{len(answers)}")
    drawn = (auc(rng.choices(answers, k=len(answers))) for _ in range(resamples if answers else 0))
    values = [value for value in drawn if value is not None]
    low, high = estimates.middle(values) if values else (None, None)
    return {name: auc(answers), f"{name}_low": low, f"{name}_high": high}


def _share(name: str, verdicts: Sequence[bool]) -> dict[str, float | None]:
    low, high = estimates.wilson_interval(sum(verdicts), len(verdicts)) if verdicts else (None, None)
    return {name: sum(verdicts) / len(verdicts) if verdicts else None, f"{name}_low": low, f"{name}_high": high}
