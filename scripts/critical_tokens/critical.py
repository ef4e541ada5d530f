"""Which token of an incorrect trajectory is critical (paper, section 2), and how that compares with the first wrong one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from critical_tokens.pocket.language import Segment


@dataclass(frozen=True)
class Critical:
    """Index of the critical token; `zero_only` where only the first of its two conditions could be met."""

    position: int
    zero_only: bool = False


def find_critical(scores: Sequence[float], later: float = 0.05, zero: float = 0.0) -> Critical | None:
    """The first token with score 0 after which every score stays below `later`.

    scores[t] is the success rate of rollouts from the prefix that ends with token t. Where no token meets both conditions
    the first with score 0 is taken and marked, as the paper reports for one of its 100 GSM8K trajectories; None where
    no score is 0. `zero` is the largest score that counts as 0: scores that are no counts hardly ever are 0.
    """
    zero_only: int | None = None
    for t, score in enumerate(scores):
        if score > zero:
            continue
        if all(s < later for s in scores[t + 1 :]):
            return Critical(t)
        if zero_only is None:
            zero_only = t
    return None if zero_only is None else Critical(zero_only, zero_only=True)


def settled(scores: Sequence[float], later: float = 0.05, zero: float = 0.0) -> bool:
    """Whether the scores of a trajectory's last tokens decide its critical token, whatever the earlier ones are.

    A score of at least `later` rules out every token before it, unless no token at all meets both conditions.
    """
    found = find_critical(scores, later, zero)
    return found is not None and not found.zero_only and any(s >= later for s in scores)


def token_at(char: int, ends: Sequence[int]) -> int:
    """Index of the token that holds a character; `ends[t]` is the length of the text up to and including token t.

    A character behind the last token belongs to the token that would come next (EOS).
    """
    return next((t for t, end in enumerate(ends) if end > char), len(ends))


def first_wrong_token(
    text: str, ends: Sequence[int], finished: bool, language: Sequence[Segment], shapes: frozenset[str]
) -> tuple[int, str] | None:
    """Index and error kind of a completion's first wrong token by the exact step checker; None for a correct one."""
    from critical_tokens.pocket.language import check

    verdict = check(text, list(language), shapes, ended=finished)
    if verdict.char is None:
        return None
    return token_at(verdict.char, ends), str(verdict.kind)
