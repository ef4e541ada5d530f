"""The kind of word that a token is or belongs to, as in the columns of v3's Table 2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from critical_tokens.core.records import Row
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
