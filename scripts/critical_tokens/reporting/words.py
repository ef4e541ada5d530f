"""What kind of word a token is or belongs to: the columns of v3's Table 2."""

from __future__ import annotations

import re
from collections.abc import Sequence

KINDS = ("function", "content", "number", "operator", "punctuation")

# Closed-class words of English: articles, pronouns, prepositions, conjunctions, auxiliaries,
# particles.
_FUNCTION_WORDS = frozenset(
    """
    a an the this that these those each every some any no all both either neither such what which whose
    i you he she it we they me him her us them my your his its our their mine yours hers ours theirs who whom one
    of in on at by for from to with without into onto over under between among through during before after about above below per
    up down out off as than since until upon within across along around against toward towards
    and or but nor so yet if then because while when where whether although though unless thus hence therefore how why
    is are was were be been being am do does did done doing has have had having can could may might must shall should will would
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
    """The kind of the token text[start:end]: a digit makes a number, then operators, then the word
    that its letters belong to.

    A LaTeX command is an operator if it is one of arithmetic, and a content word otherwise; what
    has neither letter, digit nor operator is punctuation, blanks included. The paper names its five
    kinds without saying how words fall into them.
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
    """The kind of a token by its index; `ends[t]` is the length of the text up to and including
    token t.
    """
    return word_kind(text, ends[position - 1] if position else 0, ends[position])
