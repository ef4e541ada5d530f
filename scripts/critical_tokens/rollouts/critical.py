"""Which token of an incorrect trajectory is critical (paper, section 2), and how that compares with
the first wrong one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from critical_tokens.pocket.language import Segment

LATER_BELOW = 0.05
"""The paper's threshold: every score behind a critical token is below it."""


@dataclass(frozen=True)
class Critical:
    """Index of the critical token; `zero_only` where only the first of its two conditions could be
    met.
    """

    position: int
    zero_only: bool = False


def find_critical(
    scores: Sequence[float], later_below: float = LATER_BELOW, zero_up_to: float = 0.0
) -> Critical | None:
    """The first token with score 0 after which every score stays below `later_below`.

    scores[t] is the success rate of rollouts from the prefix that ends with token t. Where no token
    meets both conditions the first with score 0 is taken and marked, as the paper reports for one
    of its 100 GSM8K trajectories; None where no score is 0. `zero_up_to` is the largest score that counts
    as 0: scores that are no counts hardly ever are 0.
    """
    zero_only: int | None = None
    for t, score in enumerate(scores):
        if score > zero_up_to:
            continue
        if all(s < later_below for s in scores[t + 1 :]):
            return Critical(t)
        if zero_only is None:
            zero_only = t
    return None if zero_only is None else Critical(zero_only, zero_only=True)


def settled(scores: Sequence[float], later_below: float = LATER_BELOW, zero_up_to: float = 0.0) -> bool:
    """Whether the scores of a trajectory's last tokens decide its critical token, whatever the
    earlier ones are.

    A score of at least `later_below` rules out every token before it, unless no token at all meets both
    conditions.
    """
    found = find_critical(scores, later_below, zero_up_to)
    return found is not None and not found.zero_only and any(s >= later_below for s in scores)


def rule_rows(
    counts: Mapping[str, Sequence[tuple[int, int]]],
    first_wrong: Mapping[str, int | None],
    thresholds: Sequence[float],
    sizes: Sequence[int],
    draws: int,
    seed: int,
) -> list[dict[str, float | int | None]]:
    """What the rule finds with other thresholds and fewer rollouts, a row for each.

    counts: (rollouts, correct ones) of every token, by trajectory, as many rollouts everywhere.
    found: share of trajectories with a token that meets both conditions; same: share with the one
    that all rollouts and the paper's threshold of 5 % find. Of those found whose first wrong token
    is known, at_or_before_first_wrong is a share, and shift the mean number of tokens up to it.
    Numbers for fewer rollouts, drawn without replacement, are means over `draws` of them. Sizes
    that there are not enough for are left out.
    """
    rng = random.Random(f"{seed}/critical rule")
    full = {name: find_critical([c / n for n, c in of_one]) for name, of_one in counts.items()}
    most = min((n for of_one in counts.values() for n, _ in of_one), default=0)
    rows = []
    for later_below, size in [(threshold, most) for threshold in thresholds] + [
        (LATER_BELOW, size) for size in sizes if size < most
    ]:
        repeats = draws if size < most else 1
        found = same = known = before = shift = 0
        for name, of_one in counts.items():
            for _ in range(repeats):
                scores = [_subsample(rng, n, c, size) / size for n, c in of_one]
                token = find_critical(scores, later_below)
                if token is None or token.zero_only:
                    continue
                found += 1
                same += full[name] is not None and not full[name].zero_only and token.position == full[name].position
                if first_wrong.get(name) is not None:
                    known += 1
                    before += token.position <= first_wrong[name]
                    shift += first_wrong[name] - token.position
        total = repeats * len(counts)
        rows.append({
            "later_below": later_below,
            "rollouts": size,
            "trajectories": len(counts),
            "found": found / total if total else None,
            "same": same / total if total else None,
            "at_or_before_first_wrong": before / known if known else None,
            "shift": shift / known if known else None,
        })  # fmt: skip
    return rows


def _subsample(rng: random.Random, n: int, correct: int, size: int) -> int:
    """How many of `size` rollouts, drawn without replacement from n, are correct."""
    return correct if size == n else sum(i < correct for i in rng.sample(range(n), size))


def token_at(char: int, ends: Sequence[int]) -> int:
    """Index of the token that holds a character; `ends[t]` is the length of the text up to and
    including token t.

    A character behind the last token belongs to the token that would come next (EOS).
    """
    return next((t for t, end in enumerate(ends) if end > char), len(ends))


def first_wrong_token(
    text: str, ends: Sequence[int], finished: bool, language: Sequence[Segment], shapes: frozenset[str]
) -> tuple[int, str] | None:
    """Index and error kind of a completion's first wrong token by the exact step checker; None for
    a correct one.

    A blank in front of the completion belongs to its form and is no error.
    """
    from critical_tokens.pocket.language import check

    blank = len(text) - len(text.removeprefix(" "))
    verdict = check(text[blank:], list(language), shapes, ended=finished)
    if verdict.char is None:
        return None
    return token_at(verdict.char + blank, ends), str(verdict.kind)
