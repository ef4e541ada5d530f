"""The kind of word that a token is or belongs to, as in the columns of v3's Table 2."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from critical_tokens.core.records import ByProblem, Row
from critical_tokens.data import prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = ("function", "content", "number", "operator", "punctuation")

# The closed word classes of English: articles, pronouns, prepositions, conjunctions, auxiliaries
# and particles.
_FUNCTION_WORDS = frozenset(
    """
    a an the this that these those each every some any no all both either neither such what which whose
    i you he she it we they me him her us them my your his its our their mine yours hers ours theirs who whom one
    of in on at by for from to with without into onto over under between among through during before after
    about above below per up down out off as than since until upon within across along around against toward towards
    and or but nor so yet if then because while when where whether although though unless thus hence therefore how why
    is are was were be been being am do does did done doing has have had having
    can could may might must shall should will would
    not there here now also just only too very more most less least again first next finally
    """.split()  # noqa: SIM905 (a list of words reads best as words)
)
_OPERATORS = frozenset("+-*/=<>^%×÷·±≤≥≠|&")
_OPERATOR_COMMANDS = frozenset(
    """
    cdot times div frac dfrac tfrac sqrt pm mp le leq ge geq ne neq lt gt sum prod int log ln sin cos
    tan pmod bmod binom cap cup
    """.split()  # noqa: SIM905
)
_WORD = re.compile(r"\\?[^\W\d_]+")


def word_kind(text: str, start: int, end: int) -> str:
    """The kind of the token text[start:end].

    The first of these rules that applies decides:
    1. A token with a digit is a number.
    2. A token with letters of a LaTeX command is an operator if the command is one of arithmetic,
       and a content word otherwise.
    3. A token with letters of another word is a function word or a content word, as the word is.
    4. A token with an operator sign is an operator.
    5. Every other token is punctuation, blanks included.

    The paper names these five kinds but does not say how it assigns them.
    """
    token = text[start:end]
    if any(c.isdigit() for c in token):
        return "number"
    words = [m for m in _WORD.finditer(text) if m.start() < end and m.end() > start]
    if words:
        word = words[0].group().lower()
        if word.startswith("\\"):
            return "operator" if word[1:] in _OPERATOR_COMMANDS else "content"
        return "function" if word in _FUNCTION_WORDS else "content"
    return "operator" if any(c in _OPERATORS for c in token) else "punctuation"


def token_kind(text: str, ends: Sequence[int], position: int) -> str:
    """The kind of the token with index `position`.

    ends[t]: length of the text up to and including token t (see `prompts.token_ends`).
    """
    return word_kind(text, ends[position - 1] if position else 0, ends[position])


def critical_kinds(
    critical: Sequence[Row], rejected: Mapping[str, Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> dict[str, str]:
    """The kind of word of every critical token, by problem id.

    critical: rows of the table "critical"; rows without a critical token are left out.
    rejected: token ids of the rejected answers, by problem id.
    """
    kinds = {}
    for row in critical:
        if row["position"] is not None:
            ids = rejected[row["problem_id"]]
            text, ends = prompts.decode(tokenizer, ids), prompts.token_ends(tokenizer, ids)
            kinds[row["problem_id"]] = token_kind(text, ends, row["position"])
    return kinds


def critical_words(
    critical: Sequence[Row],
    rejected: Mapping[str, Sequence[int]],
    scores: Mapping[tuple[str, int], float],
    problems: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    frequent: int = 10,
    examples: int = 3,
) -> dict[str, Any]:
    """Where in the answers critical tokens are, and which tokens they are.

    critical, rejected, tokenizer: as in `critical_kinds`.
    scores: the rollout score of a token, by problem id and position.
    problems: rows of the table "problems".
    frequent, examples: the numbers of the most frequent tokens and of worked examples.

    The entries of the result:
    - answers: the number of answers; found: those with a critical token.
    - quarters: critical tokens by the quarter of the answer that they are in.
    - kinds: critical tokens by kind of word; all_kinds: all tokens of these answers.
    - most_frequent: the most frequent critical tokens with their numbers, critical and all.
    - examples: the shortest answers, each cut at its critical token, with the scores of the token
      before it and of its own.
    """
    by_id = ByProblem(problems, "the table of problems")
    quarters, kinds, all_kinds = [0] * 4, Counter[str](), Counter[str]()
    tokens, all_tokens, told = Counter[str](), Counter[str](), []
    for row in critical:
        ids, position = rejected[row["problem_id"]], row["position"]
        text, ends = prompts.decode(tokenizer, ids), prompts.token_ends(tokenizer, ids)
        starts = [0, *ends[:-1]]
        own_kinds = [word_kind(text, start, end) for start, end in zip(starts, ends, strict=True)]
        all_kinds.update(own_kinds)
        all_tokens.update(text[start:end] for start, end in zip(starts, ends, strict=True))
        if position is None:
            continue
        quarters[4 * position // len(ids)] += 1
        kinds[own_kinds[position]] += 1
        token = text[starts[position] : ends[position]]
        tokens[token] += 1
        problem = by_id[row["problem_id"]]
        told.append({
            "problem_id": row["problem_id"], "question": problem["question"], "gold": problem["answer"],
            "before": text[: starts[position]], "token": token, "after": text[ends[position] :], "position": position,
            "score_before": scores.get((row["problem_id"], position - 1)),
            "score": scores.get((row["problem_id"], position)),
        })  # fmt: skip
    told.sort(key=lambda example: (len(rejected[example["problem_id"]]), example["problem_id"]))
    most = sorted(tokens.items(), key=lambda pair: (-pair[1], pair[0]))[:frequent]
    return {
        "answers": len(critical),
        "found": sum(quarters),
        "quarters": quarters,
        "kinds": {kind: kinds[kind] for kind in KINDS},
        "all_kinds": {kind: all_kinds[kind] for kind in KINDS},
        "most_frequent": [{"token": t, "critical": count, "all": all_tokens[t]} for t, count in most],
        "examples": told[:examples],
    }
