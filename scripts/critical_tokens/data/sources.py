"""Problems from three sources: generated (the pocket worlds), local JSON lines, and the hub through
`datasets`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from critical_tokens.core import hub
from critical_tokens.core.records import ArtifactError, Row, expanded
from critical_tokens.data import json_lines
from critical_tokens.grading import golds
from critical_tokens.pocket import worlds
from critical_tokens.pocket.problems import distinct_problems

Columns = Mapping[str, str | Sequence[str]]
"""The source's column, or several that are read behind one another, by what they hold: question,
solution, answer.
"""


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

    skip_unanswered: leave out problems that have no gold answer, or none that its grader can find
    right (MATH's train split has two with an empty box), and count them in `left_out`. They are
    refused otherwise. style: whose grader must find the gold answers right where they are stated;
    None for that of their form. Raises ArtifactError naming file and row for a row that is no
    problem, and for a file without any.
    """
    path = expanded(path)
    rows = (_problem(row, split, i, columns, style, f"{path}, row {i + 1}") for i, row in json_lines.read(path))
    return _answered(rows, str(path), skip_unanswered, left_out)


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
    """Problems of a fetched hub dataset at a pinned revision; arguments and errors as of
    `from_json_lines`.

    Raises HubError where it was not fetched, and ArtifactError where its files are broken or lack
    the subset or the split. A loading script in the repository is not fetched and would not be run.
    """
    from datasets import load_dataset

    where = f"{hub_id}/{hub_split}"
    folder = hub.snapshot(hub.Repository("dataset", hub_id, revision))
    try:
        source = load_dataset(str(folder), subset, split=hub_split)
    except Exception as error:  # of what is wrong with a repository, the library tells in exceptions of every kind
        raise ArtifactError(f"{where}: cannot be read from {folder} ({error.__cause__ or error!r})") from error
    rows = (_problem(row, split, i, columns, style, f"{where}, row {i + 1}") for i, row in enumerate(source))
    return _answered(rows, where, skip_unanswered, left_out)


def shared_questions(first: Sequence[Row], second: Sequence[Row]) -> int:
    """How many of the second problems ask a question of the first ones, but for blanks."""
    known = {_plain(row["question"]) for row in first}
    return sum(_plain(row["question"]) in known for row in second)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _answered(
    rows: Iterable[tuple[dict[str, Any], str | None]], where: str, skip: bool, left_out: Counter[str] | None
) -> list[dict[str, Any]]:
    """The problems whose gold answer can be given; each comes with what is wrong with its answer,
    if anything is.

    Raises ArtifactError for the first with a fault, unless they may be skipped, and where no
    problem is left.
    """
    found, skipped = [], Counter()
    for row, fault in rows:
        if fault and not skip:
            raise ArtifactError(fault)
        if fault:
            skipped["never right" if row["answer"] else "unanswered"] += 1
        else:
            found.append(row)
    if not found:
        raise ArtifactError(
            f"{where}: has no problems{f' with a gold answer, of {skipped.total()}' if skipped else ''}"
        )
    if left_out is not None:
        left_out.update(skipped)
    return found


def _problem(
    row: Row, split: str, index: int, columns: Columns, style: str | None, where: str
) -> tuple[dict[str, Any], str | None]:
    """A source row as a problem, and what is wrong with its gold answer: None where an answer can
    be right.

    Raises ArtifactError for a row that is no problem.
    """
    several = {name: [column] if isinstance(column, str) else column for name, column in columns.items()}
    values = {name: _cell(row, name, names, where) for name, names in several.items()}
    solution = values.get("solution")
    answer = values["answer"] if "answer" in values else golds.of_solution(solution or "")
    problem = {
        "problem_id": f"{split}-{index:05d}",
        "question": values["question"],
        "answer": answer,
        "solution": solution,
        **dict.fromkeys(("world", "signature", "language", "trap", "trap_rate")),
    }
    if answer is None:
        return problem, f"{where}: has no answer {_lacking(row, several)}"
    # Behind "####" stand answers of GSM8K.
    worked = "answer" not in columns and "####" in (solution or "")
    if golds.is_gradable(answer, style or ("gsm8k" if worked else None)):
        return problem, None
    what = f"the gold answer {answer[:80]!r} is found wrong by its own grader where an answer states it"
    return (problem, f"{where}: {what}; leave units and sentences out of it, or choose the other style")


def _lacking(row: Row, columns: Mapping[str, Sequence[str]]) -> str:
    if "answer" not in columns:
        return "(neither '#### …' nor \\boxed{…} in its solution)"
    return "; ".join(f"in column {column!r}; its value is {str(row[column])[:60]!r}" for column in columns["answer"])


def _cell(row: Row, name: str, columns: Sequence[str], where: str) -> str | None:
    """What a row holds under a name: the texts of its columns, one behind the other.

    Raises ArtifactError where one is missing or holds no text. Only an answer may be empty: None.
    """
    texts = []
    for column in columns:
        if column not in row:
            raise ArtifactError(f"{where}: has no {name} in column {column!r}; it has {', '.join(map(str, row))[:120]}")
        value = row[column]
        text = golds.of_column(value) if name == "answer" else value
        if name == "answer" and text is None and (value is None or isinstance(value, str)):
            return None
        if not isinstance(text, str) or not text.strip():
            raise ArtifactError(f"{where}: has no {name} in column {column!r}; its value is {str(value)[:60]!r}")
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
            raise ArtifactError(f"{where}: {name} has a character that is none (NUL, or half of a pair)")
        texts.append(text)
    return " ".join(texts)
