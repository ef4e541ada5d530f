"""Problems from three sources: generated (the pocket worlds), local JSON lines, and the hub through `datasets`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from critical_tokens import answers, hub, json_lines
from critical_tokens.pocket import worlds
from critical_tokens.pocket.problems import distinct_problems
from critical_tokens.records import ArtifactError, Row

Columns = Mapping[str, str | Sequence[str]]
"""The source's column, or several that are read behind one another, by what they hold: question, solution, answer."""

# As ASDiv states its gold answers: a number with its unit in brackets.
_UNIT_IN_BRACKETS = re.compile(r"([-+]?\d[\d.,]*) \([A-Za-z][A-Za-z ]+\)")
# What is no mathematics: one number with signs or a unit around it, or words and numbers. So GSM8K's answers look, rightly
# stated or not.
_SIGNS = r"[$€£¥%°\u2212+.\s-]*"
_ONE_NUMBER = re.compile(rf"{_SIGNS}\d+(?:,\d{{3}})*(?:\.\d+)?(?: \d{{3}})*(?:\s[^\W\d_])?{_SIGNS}")
_WORDS_AND_NUMBERS = re.compile(r"(?=.*\d)(?=.*[^\W\d_]{2})[\w\s$€£¥%°\u2212.,:;!?'\"()-]*", re.DOTALL)


def generated(world: str, split: str, n: int, seed: int) -> list[dict[str, Any]]:
    """`n` different problems of a pocket world, as rows of the table "problems"."""
    rows = []
    for index, problem in enumerate(distinct_problems(worlds.WORLDS[world].draw, split, seed, n)):
        solution = "".join(segment.wordings[0] for segment in problem.solution.segments())
        rows.append({
            "problem_id": f"{split}-{index:05d}",
            "question": problem.question,
            "answer": problem.answer,
            "solution": solution,
            "world": world,
            "signature": problem.signature,
            "language": problem.solution.to_json(),
            "trap": problem.trap.name if problem.trap else None,
            "trap_rate": problem.trap.rate if problem.trap else None,
        })  # fmt: skip
    return rows


def from_json_lines(
    path: Path,
    split: str,
    columns: Columns,
    skip_unanswered: bool = False,
    style: str | None = None,
    left_out: Counter[str] | None = None,
) -> list[dict[str, Any]]:
    """Problems of a (gzipped) file of JSON lines, encoded in UTF-8.

    skip_unanswered: leave out problems that have no gold answer, or none that its grader can find right (MATH's train split
    has two with an empty box), and count them in `left_out`. They are refused otherwise.
    style: whose grader must find the gold answers right where they are stated; None for that of their form.
    Raises ArtifactError naming file and row for a row that is no problem, and for a file without any.
    """
    path = path.expanduser()
    rows = ((_row(row, split, i, columns, f"{path}, row {i + 1}"), f"{path}, row {i + 1}") for i, row in json_lines.read(path))
    return _answered(rows, str(path), skip_unanswered, style, left_out)


def from_hub(
    hub_id: str,
    subset: str | None,
    hub_split: str,
    revision: str | None,
    split: str,
    columns: Columns,
    skip_unanswered: bool = False,
    style: str | None = None,
    left_out: Counter[str] | None = None,
) -> list[dict[str, Any]]:
    """Problems of a fetched hub dataset at a pinned revision; arguments and errors as of `from_json_lines`.

    Raises HubError where it was not fetched, and ArtifactError where it lacks the subset or the split. Nothing in the
    repository is run: only its data files are fetched, and the library no longer knows scripts.
    """
    from datasets import load_dataset

    where = f"{hub_id}/{hub_split}"
    folder = hub.snapshot(hub.Repository("dataset", hub_id, revision))
    try:
        source = load_dataset(str(folder), subset, split=hub_split)
    except Exception as error:  # of what is wrong with a repository, the library tells in exceptions of every kind
        told = f"{type(error).__name__}: {error.__cause__ or error}"
        raise ArtifactError(f"{where}, subset {subset}: cannot be read ({told[:300]})") from error
    rows = ((_row(row, split, i, columns, f"{where}, row {i + 1}"), f"{where}, row {i + 1}") for i, row in enumerate(source))
    return _answered(rows, where, skip_unanswered, style, left_out)


def shared_questions(first: Sequence[Row], second: Sequence[Row]) -> int:
    """How many of the second problems ask a question of the first ones, but for blanks."""
    known = {_plain(row["question"]) for row in first}
    return sum(_plain(row["question"]) in known for row in second)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _answered(
    rows: Iterable[tuple[dict[str, Any], str]], where: str, skip: bool, style: str | None, left_out: Counter[str] | None
) -> list[dict[str, Any]]:
    """The problems whose gold answer can be given; each comes with the words for where it stands.

    Raises ArtifactError for the first other one, unless they may be skipped, and where none is left.
    """
    found, skipped = [], Counter()
    for row, place in rows:
        fault = _fault(row["answer"], style)
        if fault and not skip:
            raise ArtifactError(f"{place}: {fault}")
        if fault:
            skipped["never right" if row["answer"] else "unanswered"] += 1
        else:
            found.append(row)
    if not found:
        raise ArtifactError(f"{where}: has no problems{f' with a gold answer, of {skipped.total()}' if skipped else ''}")
    if left_out is not None:
        left_out.update(skipped)
    return found


def _fault(gold: str | None, style: str | None) -> str | None:
    """What is wrong with a gold answer, in words; None where an answer can be right."""
    if not gold:
        return "has no answer (none in its column, or neither '#### …' nor \\boxed{…} in its solution)"
    plain = _ONE_NUMBER.fullmatch(gold) or _WORDS_AND_NUMBERS.fullmatch(gold)
    if answers.gold_is_gradable(gold, style or ("gsm8k" if plain else "math")):
        return None
    what = f"the gold answer {gold[:80]!r} is found wrong by its own grader where an answer states it"
    return f"{what}; leave units and sentences out of it, or choose the other style"


def _row(row: Row, split: str, index: int, columns: Columns, where: str) -> dict[str, Any]:
    """A source row as a problem; its answer is None where there is none. Raises ArtifactError for a row that is no problem."""
    values = {
        name: _cell(row, name, [column] if isinstance(column, str) else column, where) for name, column in columns.items()
    }
    answer = values["answer"] if "answer" in values else gold_answer(values.get("solution") or "")
    return {
        "problem_id": f"{split}-{index:05d}",
        "question": values["question"],
        "answer": answer or None,
        "solution": values.get("solution"),
        **dict.fromkeys(("world", "signature", "language", "trap", "trap_rate")),
    }


def _cell(row: Row, name: str, columns: Sequence[str], where: str) -> str | None:
    """What a row holds under a name: the texts of its columns. Only an answer may be missing, where a row has its column."""
    texts = []
    for column in columns:
        value = row.get(column)
        text = _gold_text(value) if name == "answer" else value
        if name == "answer" and column in row and (text is None or text == ""):
            return None
        if not isinstance(text, str) or not text.strip():
            stands = f"its value is {str(value)[:60]!r}" if column in row else f"it has {', '.join(map(str, row))[:120]}"
            raise ArtifactError(f"{where}: has no {name} in column {column!r}; {stands}")
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
            raise ArtifactError(f"{where}: {name} has a character that is none (NUL, or half of a pair)")
        texts.append(text)
    return " ".join(texts)


def _gold_text(value: Any) -> Any:
    """A gold answer as text: a number, or the only member of a list, is one, too; None where a text holds none.

    A worked solution is read as such, and a number with its unit in brackets as the number.
    """
    if isinstance(value, list) and len(value) == 1:
        return _gold_text(value[0])
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return value
    if "####" in value or "\\boxed" in value:
        return gold_answer(value)
    number = _UNIT_IN_BRACKETS.fullmatch(value.strip())
    return number[1] if number else value.strip()


def gold_answer(solution: str) -> str | None:
    r"""The gold answer of a worked solution: after "####" (GSM8K), else the last \boxed{…} (MATH).

    A number of GSM8K has neither commas nor a currency sign, as the released grader reads numbers (parser.py:221).
    """
    if "####" in solution:
        return solution.rsplit("####", 1)[1].strip().translate(_NO_SIGNS) or None
    return answers.last_boxed(solution)


_NO_SIGNS = dict.fromkeys(map(ord, ",$€£"))
