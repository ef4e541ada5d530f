"""Problems from three sources: the pocket worlds, local JSON lines, and datasets of the hub."""

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
"""The column of a source that holds the question, the solution and the answer of a problem.

Where several columns are given for one of them, their texts are joined in this order.
"""


def generated(world: str, split: str, n: int, seed: int) -> list[dict[str, Any]]:
    """Draw `n` different problems of a pocket world, as rows of the table "problems"."""
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
    """Problems of a (gzipped) file of JSON lines in UTF-8, as rows of the table "problems".

    split: the first part of the problem ids.
    columns: the columns of the file, see `Columns`.
    skip_unanswered: leave out problems that have no gold answer, or one that its grader could never
        find correct (MATH's train split has two with an empty box); False raises an error for them.
    style: the style whose grader must find the gold answers correct; None lets the form of each
        gold answer decide (see `golds.is_gradable`).
    left_out: is increased by the number of problems that were left out, by reason.

    Raises ArtifactError, naming the file and the row, for a row that is no problem, and for a file
    without problems.
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
    """Problems of a downloaded hub dataset, as rows of the table "problems".

    hub_id, subset, hub_split, revision: where the problems lie on the hub.
    The other arguments and the errors are those of `from_json_lines`.

    Also raises HubError where the dataset was not downloaded, and ArtifactError where its files are
    broken or lack the subset or the split. Loading scripts are neither downloaded nor run.
    """
    from datasets import load_dataset

    where = f"{hub_id}/{hub_split}"
    folder = hub.snapshot(hub.Repository("dataset", hub_id, revision))
    try:
        source = load_dataset(str(folder), subset, split=hub_split)
    except Exception as error:  # broken files make the library raise exceptions of every kind
        raise ArtifactError(f"{where}: cannot be read from {folder} ({error.__cause__ or error!r})") from error
    rows = (_problem(row, split, i, columns, style, f"{where}, row {i + 1}") for i, row in enumerate(source))
    return _answered(rows, where, skip_unanswered, left_out)


def shared_questions(first: Sequence[Row], second: Sequence[Row]) -> int:
    """How many of the second problems have a question of the first ones, ignoring white space."""
    known = {_plain(row["question"]) for row in first}
    return sum(_plain(row["question"]) in known for row in second)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _answered(
    rows: Iterable[tuple[dict[str, Any], str | None]], where: str, skip: bool, left_out: Counter[str] | None
) -> list[dict[str, Any]]:
    """The problems whose gold answers have no fault.

    rows: problems, each with the fault of its gold answer, or None.
    skip: whether problems with a fault are left out; otherwise the first one is an ArtifactError.
    left_out: is increased by the number of problems that were left out, by reason.

    Raises ArtifactError also where no problem is left.
    """
    found = []
    skipped: Counter[str] = Counter()
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
    """A row of a source as a problem, with the fault of its gold answer (None if it has no fault).

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
    # "####" in a solution marks an answer of GSM8K's style.
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
    """The joined texts of some columns of a row; None for an empty answer.

    name: what the columns hold (question, solution or answer).

    Raises ArtifactError where a column is missing or holds no text.
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
            raise ArtifactError(f"{where}: {name} has an invalid character (NUL, or half of a surrogate pair)")
        texts.append(text)
    return " ".join(texts)
