"""The language of correct solutions, and the exact step checker.

A pocket problem knows every correct way to write its solution: a sequence of segments, each with
the wordings that are correct at its place. That is a small finite automaton, so the question "is
this prefix still correct?" has an exact answer. The first wrong character of a completion is the
one at which it leaves the language: the first letter of a wrong word, or the wrong digit of a
number. The checker does not look at probabilities. A lead-in that only hasty solutions use is not
an error, even if a language model rarely reaches the correct answer after it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

# The error classes of the paper's Table 1 (ICML and v3), as far as a program can tell them apart.
ERROR_KINDS = ("calculation", "missing_step", "semantic", "degeneration")

# Lead-ins: the words that open a step. All of them are correct at every step. But at a step that
# can be misread, only writers who misread it use a hasty lead-in (`worlds.write`). So there are
# tokens that lead to wrong answers without being wrong themselves, like "owed" in the paper.
CAREFUL_LEADS = ("First, ", "Then, ", "Next, ")
HASTY_LEADS = ("So ", "Now ")
LEADS = CAREFUL_LEADS + HASTY_LEADS


@dataclass(frozen=True)
class Segment:
    """One piece of a solution.

    role: lead, wording, running, operation, operand, result or answer.
    wordings: the correct texts that writers choose from.
    tolerated: further texts that are no error. The checker judges numbers, operations and
        sentences, but not nouns: small language models mix these up and still calculate correctly.
    """

    role: str
    wordings: tuple[str, ...]
    tolerated: tuple[str, ...] = ()

    def accepted(self) -> tuple[str, ...]:
        """All texts that are no error here."""
        return self.wordings + self.tolerated


@dataclass(frozen=True)
class Step:
    """One sentence of a solution, after its lead-in; `risky` if a misreading would start here."""

    body: tuple[Segment, ...]
    risky: bool = False


@dataclass(frozen=True)
class Solution:
    """The steps of a solution and its closing sentence, for example "The answer is 12."."""

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
        """The segments as JSON: a list of [role, wordings, tolerated]; see `language_from_json`."""
        rows = [[s.role, list(s.wordings), list(s.tolerated)] for s in self.segments()]
        return json.dumps(rows, separators=(",", ":"))


def language_from_json(text: str) -> list[Segment]:
    """The segments of a solution, from the text that `Solution.to_json` returned."""
    return [Segment(role, tuple(wordings), tuple(tolerated)) for role, wordings, tolerated in json.loads(text)]


@dataclass(frozen=True)
class Verdict:
    """What the checker found; both values are None where there is no error.

    char: the offset of the first wrong character.
    kind: one of ERROR_KINDS.
    """

    char: int | None
    kind: str | None


_SENTENCE = re.compile(r"[^.]*\.")
_NUMBER = re.compile(r"\d+")


def _shape(sentence: str) -> str:
    """A sentence without its lead-in, with "n" for each number and "o" for each operator.

    A sentence whose shape no solution has is not a step at all.
    """
    for lead in LEADS:
        if sentence.startswith(lead):
            sentence = sentence[len(lead) :]
            break
    return re.sub(r"\\cdot|[+\-*/]", "o", _NUMBER.sub("n", sentence)).strip()


def check(text: str, language: list[Segment], sentence_shapes: frozenset[str], ended: bool = True) -> Verdict:
    """The first wrong character of `text`, and the kind of error.

    language: the segments of the correct solutions.
    sentence_shapes: the shapes of the world's sentences (see `worlds.sentence_shapes`). A wrong
        sentence of a known shape is a misreading or a slip; any other is `degeneration`.
    ended: whether the writer ended the text. A correct prefix that ends too early is then
        `missing_step`; one that was cut off by a length limit is `degeneration` at its end.
    """
    reached = {0}
    furthest, at = 0, 0
    due: set[str] = set()  # the characters that would have been correct at `furthest`
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
    """The start of the wrong word at `char`: "The" instead of "Then" is wrong as a whole word.

    `due` are the characters that would have been correct at `char`. Where these are not letters, a
    wrong digit or sign starts at `char` itself.
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
    """Whether a wrong sentence has the wording of a later step, so that a step was left out."""
    later_leads = [i for i in range(at + 1, len(language)) if language[i].role == "lead"]
    if sentence.startswith("The answer is"):
        return bool(later_leads) or language[at].role == "lead"
    for lead in LEADS:
        sentence = sentence.removeprefix(lead)
    return any(re.fullmatch(_step_pattern(language[i + 1 :]), sentence) for i in later_leads)


def _step_pattern(segments: list[Segment]) -> str:
    """A pattern for the step that `segments` start with.

    It allows any number for the running value and the result, because a left-out step changes them.
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
    """The shapes of all sentences of a solution, as `check` compares them."""
    return {_shape(m.group(0).strip()) for m in _SENTENCE.finditer(solution_text)}
