"""Problems from three sources: generated (the pocket worlds), local JSON lines, and the hub through `datasets`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from critical_tokens import answers, hub
from critical_tokens.pocket import worlds
from critical_tokens.pocket.problems import distinct_problems
from critical_tokens.records import ArtifactError


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


def from_json_lines(path: Path, split: str, columns: Mapping[str, str], skip_unanswered: bool = False) -> list[dict[str, Any]]:
    """Problems of a (gzipped) JSON-lines file. Raises ArtifactError naming file and row for a row that is no problem.

    `skip_unanswered` leaves out problems without a gold answer instead (MATH's train split has two with an empty box).
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: does not exist")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = [_row(_parsed(line, path, i), split, i, columns, f"{path}, row {i + 1}") for i, line in _numbered(lines, path)]
    return _answered(rows, str(path), skip_unanswered)


def from_hub(
    hub_id: str,
    subset: str | None,
    hub_split: str,
    revision: str | None,
    split: str,
    columns: Mapping[str, str],
    skip_unanswered: bool = False,
) -> list[dict[str, Any]]:
    """Problems of a fetched hub dataset at a pinned revision; errors and `skip_unanswered` as `from_json_lines`.

    Raises HubError where it was not fetched.
    """
    from datasets import load_dataset

    where = f"{hub_id}/{hub_split}"
    folder = hub.snapshot(hub.Repository("dataset", hub_id, revision))
    source = load_dataset(str(folder), subset, split=hub_split)
    rows = [_row(row, split, i, columns, f"{where}, row {i + 1}") for i, row in enumerate(source)]
    return _answered(rows, where, skip_unanswered)


def _answered(rows: list[dict[str, Any]], where: str, skip: bool) -> list[dict[str, Any]]:
    """The rows that have an answer; ArtifactError for the first that has none, unless they may be skipped."""
    for row in rows:
        if row["answer"] is None and not skip:
            number = int(row["problem_id"].rsplit("-", 1)[1]) + 1
            raise ArtifactError(f"{where}, row {number}: has no answer (neither '#### …' nor \\boxed{{…}} in its solution)")
    return [row for row in rows if row["answer"] is not None]


def _numbered(lines: Iterable[str], path: Path) -> Iterable[tuple[int, str]]:
    try:
        for i, line in enumerate(lines):
            if line.strip():
                yield i, line
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read to its end ({error})") from error


def _parsed(line: str, path: Path, index: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ArtifactError(f"{path}, row {index + 1}: is not JSON ({error})") from error


def _row(row: Any, split: str, index: int, columns: Mapping[str, str], where: str) -> dict[str, Any]:
    """A source row as a problem: `columns` maps question, solution and, if it stands apart, answer to its columns."""
    values = {}
    for name, column in columns.items():
        value = row.get(column) if isinstance(row, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise ArtifactError(f"{where}: has no {name} (column {column!r})")
        values[name] = value
    return {
        "problem_id": f"{split}-{index:05d}",
        "question": values["question"],
        "answer": values.get("answer") or gold_answer(values.get("solution", "")) or None,
        "solution": values.get("solution"),
        **dict.fromkeys(("world", "signature", "language", "trap", "trap_rate")),
    }


def gold_answer(solution: str) -> str | None:
    r"""The gold answer of a worked solution: after "####" (GSM8K), else the last \boxed{…} (MATH)."""
    if "####" in solution:
        return solution.rsplit("####", 1)[1].strip().replace(",", "") or None
    return answers.last_boxed(solution)
