"""The critical token of an incorrect trajectory (paper, section 2) and its first wrong token."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from critical_tokens.core.records import Row
from critical_tokens.data import prompts
from critical_tokens.data.annotations import Annotation, of_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from critical_tokens.pocket.language import Segment

LATER_BELOW = 0.05
"""The paper's threshold: every score after a critical token is below it."""


@dataclass(frozen=True)
class Critical:
    """A critical token.

    position: its index in the answer.
    zero_only: whether it meets only the first of the two conditions, see `find_critical`.
    """

    position: int
    zero_only: bool = False


def find_critical(
    scores: Sequence[float], later_below: float = LATER_BELOW, zero_up_to: float = 0.0
) -> Critical | None:
    """The first token with score 0 after which every score is below `later_below`.

    If no token meets both conditions, the first token with score 0 is taken and marked, as the
    paper reports for one of its 100 GSM8K trajectories. None if no score is 0.

    scores: scores[t] is the success rate of rollouts from the prefix that ends with token t.
    zero_up_to: the largest score that counts as 0. It is above 0 for stratified scores, which are
    hardly ever exactly 0.
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
    """Whether the scores of the last tokens decide the critical token, whatever the others are.

    They do if one of them is at least `later_below`, which rules out every token before it, and a
    token after it meets both conditions.
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
    """Rows on the critical tokens under other thresholds and from fewer rollouts.

    counts: (rollouts, correct rollouts) of every token, by trajectory. All tokens have the same
    number of rollouts.
    first_wrong: index of the first wrong token by trajectory; None if it is unknown.
    thresholds: values of `later_below`, each with all rollouts.
    sizes: smaller numbers of rollouts, each with the paper's threshold. They are drawn without
    replacement, and the row has means over `draws` such draws. Larger sizes are left out.

    The columns of a row besides its settings:
    - found: share of trajectories with a token that meets both conditions.
    - same: share of trajectories with the token that all rollouts and the paper's threshold give.
    - at_or_before_first_wrong: share of found tokens, among those with a known first wrong token.
    - shift: mean number of tokens from the found token to the first wrong one, among the same.
    """
    rng = random.Random(f"{seed}/critical rule")
    full = {name: find_critical([c / n for n, c in of_one]) for name, of_one in counts.items()}
    most = min((n for of_one in counts.values() for n, _ in of_one), default=0)
    rows: list[dict[str, float | int | None]] = []
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
                same += token == full[name]
                wrong = first_wrong.get(name)
                if wrong is not None:
                    known += 1
                    before += token.position <= wrong
                    shift += wrong - token.position
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
    """The number of correct rollouts among `size` of n, drawn without replacement."""
    return correct if size == n else sum(i < correct for i in rng.sample(range(n), size))


def token_at(char: int, ends: Sequence[int]) -> int:
    """Index of the token that contains a character.

    ends: ends[t] is the length of the text up to and including token t. A character after the last
    token belongs to the token that would come next (EOS).
    """
    return next((t for t, end in enumerate(ends) if end > char), len(ends))


def first_wrong_token(
    text: str, ends: Sequence[int], finished: bool, language: Sequence[Segment], shapes: frozenset[str]
) -> tuple[int, str] | None:
    """Index and kind of error of a completion's first wrong token; None for a correct completion.

    The exact step checker decides. A blank in front of the completion is not an error.
    """
    from critical_tokens.pocket.language import check

    blank = len(text) - len(text.removeprefix(" "))
    verdict = check(text[blank:], list(language), shapes, ended=finished)
    if verdict.char is None:
        return None
    return token_at(verdict.char + blank, ends), str(verdict.kind)


def critical_row(
    scored: Sequence[Row],
    pair: Row,
    truth: tuple[int, str] | None,
    later_below: float = LATER_BELOW,
    zero_up_to: float = 0.0,
) -> dict[str, Any]:
    """The row of the table "critical" for the rejected answer of a pair.

    scored: the rows of the table "rollouts" for this answer, in the order of their positions. If
        the answer was scored from its end backwards, its first tokens may be missing.
    pair: the row of the table "pairs".
    truth: index and error kind of the first wrong token; None where it is unknown.
    later_below, zero_up_to: the thresholds of `find_critical`.
    """
    tokens = [row for row in scored if row["position"] >= 0]
    found = find_critical([row["score"] for row in tokens], later_below, zero_up_to)
    position = tokens[found.position]["position"] if found else None
    return {
        "problem_id": pair["problem_id"],
        "sample_id": pair["rejected_id"],
        "position": position,
        "token_id": None if position is None else pair["rejected"][position],
        "length": len(pair["rejected"]),
        "zero_only": found.zero_only if found else None,
        "first_wrong": truth[0] if truth else None,
        "error_kind": truth[1] if truth else None,
    }


def known_first_wrong(
    pair: Row,
    problem: Row,
    annotated: Mapping[tuple[str, str], Annotation],
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[int, str] | None:
    """Index and error kind of a rejected answer's first wrong token; None where it is unknown.

    An annotation of the answer comes first. Without one, the step checker judges answers to
    generated problems, and nothing is known about answers to other problems.

    pair, problem: rows of the tables "pairs" and "problems".
    annotated: annotations by problem id and text of the answer, see `annotations.read`.
    """
    from critical_tokens.pocket import language, worlds

    ids = pair["rejected"]
    text = prompts.decode(tokenizer, ids)
    annotation = of_answer(annotated, pair["problem_id"], text)
    if annotation is not None:
        return token_at(annotation.offset, prompts.token_ends(tokenizer, ids)), annotation.error_kind
    if not problem["language"]:
        return None
    return first_wrong_token(
        text,
        prompts.token_ends(tokenizer, ids),
        pair["rejected_finished"],
        language.language_from_json(problem["language"]),
        worlds.sentence_shapes(problem["world"]),
    )


def critical_counts(rows: Sequence[Row]) -> dict[str, int]:
    """Counts over rows of the table "critical", for the metadata of the table.

    trajectories: rows.
    found: rows with a critical token.
    zero_only: critical tokens that met only the condition that their score is 0.
    with_known_first_wrong: rows with a critical token whose first wrong token is known.
    at_or_before_first_wrong: those of them whose critical token is at or before it.
    """
    known = [row for row in rows if row["position"] is not None and row["first_wrong"] is not None]
    return {
        "trajectories": len(rows),
        "found": sum(row["position"] is not None for row in rows),
        "zero_only": sum(bool(row["zero_only"]) for row in rows),
        "at_or_before_first_wrong": sum(row["position"] <= row["first_wrong"] for row in known),
        "with_known_first_wrong": len(known),
    }
