"""The language of correct solutions, and the exact step checker.

A pocket problem knows every correct way to write its solution: a sequence of segments, each with
the wordings that are right at its place. That is a small finite automaton, so "is this prefix still
correct?" has an exact answer, and the first wrong character of any completion is where the prefix
leaves the language: the first letter of a wrong word, the wrong digit of a number. Nothing here
looks at probabilities: a lead-in that only hasty solutions use is not an error, although a language
model may be lost after it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

# The classes of the paper's Table 1 (ICML and v3), as far as a program can tell them apart.
ERROR_KINDS = ("calculation", "missing_step", "semantic", "degeneration")

# What opens a step. Anyone may use any of them; at a step that invites a misreading only those who
# misread it use a hasty one (pocket.corpus writes solutions so). That plants tokens which are lost
# without being wrong: the paper's "owed".
CAREFUL_LEADS = ("First, ", "Then, ", "Next, ")
HASTY_LEADS = ("So ", "Now ")
LEADS = CAREFUL_LEADS + HASTY_LEADS


@dataclass(frozen=True)
class Segment:
    """One stretch of a solution: its role (lead, wording, running, operation, operand, result,
    answer) and its wordings.

    `wordings` are those that writers choose from; `tolerated` ones are no error either: the checker
    reads numbers, operations and sentences, not the nouns, which small language models mix up
    without losing their way.
    """

    role: str
    wordings: tuple[str, ...]
    tolerated: tuple[str, ...] = ()

    def accepted(self) -> tuple[str, ...]:
        """All wordings that are correct here."""
        return self.wordings + self.tolerated


@dataclass(frozen=True)
class Step:
    """One sentence of a solution after its lead-in; `risky` where a misreading would start."""

    body: tuple[Segment, ...]
    risky: bool = False


@dataclass(frozen=True)
class Solution:
    """Steps and the closing sentence, e.g. "The answer is 12."."""

    steps: tuple[Step, ...]
    closing: tuple[Segment, ...]

    def segments(self) -> list[Segment]:
        """All segments in order, lead-ins included."""
        out: list[Segment] = []
        for step in self.steps:
            out.append(Segment("lead", LEADS))
            out.extend(step.body)
            out.append(Segment("wording", (" ",)))
        return out + list(self.closing)

    def to_json(self) -> str:
        """The language as JSON: a list of [role, wordings, tolerated], which `language_from_json`
        reads.
        """
        rows = [[s.role, list(s.wordings), list(s.tolerated)] for s in self.segments()]
        return json.dumps(rows, separators=(",", ":"))


def language_from_json(text: str) -> list[Segment]:
    """Inverse of `Solution.to_json`."""
    return [Segment(role, tuple(wordings), tuple(tolerated)) for role, wordings, tolerated in json.loads(text)]


@dataclass(frozen=True)
class Verdict:
    """What the checker found: `char` is the offset of the first wrong character (None: no error),
    `kind` one of ERROR_KINDS.
    """

    char: int | None
    kind: str | None


_SENTENCE = re.compile(r"[^.]*\.")
_NUMBER = re.compile(r"\d+")


def _shape(sentence: str) -> str:
    """A sentence with its lead-in dropped and numbers and operators blanked, to ask "is this a step
    at all?".
    """
    for lead in LEADS:
        if sentence.startswith(lead):
            sentence = sentence[len(lead) :]
            break
    return re.sub(r"\\cdot|[+\-*/]", "o", _NUMBER.sub("n", sentence)).strip()


def check(text: str, language: list[Segment], sentence_shapes: frozenset[str], ended: bool = True) -> Verdict:
    """First wrong character of `text`, and the kind of error.

    `ended` says that the writer stopped there by itself; a correct prefix cut off by a length limit
    is `degeneration` at its end, a correct prefix that ends too early is `missing_step`.
    `sentence_shapes` are the shapes (see `sentence_shape`) of the world's sentences: a wrong
    sentence of a known shape is a misreading or a slip, any other is `degeneration`.
    """
    reached = {0}
    furthest, at = 0, 0
    due: set[str] = set()  # the characters that could have come at `furthest`
    for index, segment in enumerate(language):
        following: set[int] = set()
        for start in reached:
            for wording in segment.accepted():
                common = _common_prefix(text, start, wording)
                if common == len(wording):
                    following.add(start + common)
                elif start + common >= furthest:
                    due = due if start + common == furthest else set()
                    due.add(wording[common])
                    furthest, at = start + common, index
        if not following:
            break
        reached = following
    else:
        if len(text) in reached:
            return Verdict(None, None)
        return Verdict(max(reached), "degeneration")
    if furthest >= len(text):
        return Verdict(len(text), "missing_step" if ended else "degeneration")
    char = _word_start(text, furthest, due)
    return Verdict(char, _kind(text, char, at, language, sentence_shapes))


def _word_start(text: str, char: int, due: set[str]) -> int:
    """The start of the word that is wrong at `char`, where `due` could have come: "The" for "Then"
    is wrong as a word.
    """
    if not text[char].isalpha() and not all(c.isalpha() for c in due):
        return char
    while char > 0 and text[char - 1].isalpha():
        char -= 1
    return char


def _common_prefix(text: str, start: int, wording: str) -> int:
    n = 0
    while n < len(wording) and start + n < len(text) and text[start + n] == wording[n]:
        n += 1
    return n


def _kind(text: str, char: int, at: int, language: list[Segment], sentence_shapes: frozenset[str]) -> str:
    start = text.rfind(". ", 0, char) + 2 if ". " in text[:char] else 0
    match = _SENTENCE.match(text, start)
    sentence = match.group(0) if match else text[start:]
    if not match or _shape(sentence) not in sentence_shapes:
        return "degeneration"
    if language[at].role in ("result", "answer"):
        return "calculation"
    if _is_later_sentence(sentence, at, language):
        return "missing_step"
    return "semantic"


def _is_later_sentence(sentence: str, at: int, language: list[Segment]) -> bool:
    """Whether the wrong sentence has the wording of a later one: then what stood between was left
    out.
    """
    later_leads = [i for i in range(at + 1, len(language)) if language[i].role == "lead"]
    if sentence.startswith("The answer is"):
        return bool(later_leads) or language[at].role == "lead"
    for lead in LEADS:
        sentence = sentence.removeprefix(lead)
    return any(re.fullmatch(_step_pattern(language[i + 1 :]), sentence) for i in later_leads)


def _step_pattern(segments: list[Segment]) -> str:
    """A pattern for the body that `segments` start with, running value and result free: a left-out
    step changes them.
    """
    pattern = ""
    for segment in segments:
        if segment.role == "lead" or segment.wordings == (" ",):
            break
        wordings = [re.escape(w) for w in segment.accepted()]
        if segment.role in ("running", "result"):
            wordings = [_NUMBER.sub(lambda _: r"\d+", w) for w in wordings]
        pattern += f"(?:{'|'.join(wordings)})"
    return pattern


def sentence_shapes(solution_text: str) -> set[str]:
    """Shapes of all sentences of a solution, for `check`'s `sentence_shapes`."""
    return {_shape(m.group(0).strip()) for m in _SENTENCE.finditer(solution_text)}
