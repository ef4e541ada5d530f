"""Critical tokens against first wrong tokens and against contrastive scores: v3's Tables 1 and 2,
the AUC.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from critical_tokens.core import records
from critical_tokens.reporting import estimates, words


def kinds_rows(critical: Sequence[records.Row], word_kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """Critical tokens by kind of error, and all of them: v3's Tables 1 and 2 in one.

    critical: rows of that table; those without a critical token or a known first error are left
    out. word_kinds: of the critical token, by problem. differ: share in percent whose critical
    token is not the first wrong one; before, after: where it is then.
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
    """Contrastive scores against rollouts and against the checker, over the tokens of the examined
    answers.

    critical: rows of that table. contrast: scores by problem. base: log-probabilities under the
    base model alone, the control: critical tokens are improbable ones, too. *_low and *_high are 95
    % intervals: for AUC the answers are resampled, whose tokens belong together; for shares of
    answers Wilson's.
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
    """AUC by token over all answers, as the paper's: the token at `key` is positive, all others are
    negative.
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
