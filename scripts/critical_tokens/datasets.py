"""Problems from three sources: generated (the pocket worlds), local JSON lines, and the hub through `datasets`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from critical_tokens import golds, hub
from critical_tokens.pocket import worlds
from critical_tokens.pocket.problems import distinct_problems
from critical_tokens.records import ArtifactError, Row, expanded

# A file that unfolds to more than this is no set of problems: text compresses five- to tenfold, a gzip bomb a thousandfold.
_MOST_UNFOLDED, _ALWAYS = 100, 1 << 24
_LONGEST_LINE, _MOST_LINES = 1 << 24, 5_000_000
_OTHER_FORMATS = (".parquet", ".csv", ".tsv", ".xlsx", ".arrow", ".zip")


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
    path: Path, split: str, columns: Mapping[str, str], skip_unanswered: bool = False, style: str | None = None
) -> list[dict[str, Any]]:
    """Problems of a (gzipped) JSON-lines file, encoded in UTF-8.

    columns: the names of the file's columns for question, solution and, if it stands apart, answer.
    skip_unanswered: leave out problems without a gold answer (MATH's train split has two with an empty box).
    style: whose grader must find the gold answers right where they are stated; None for any.
    Raises ArtifactError naming file and row for a row that is no problem, and for a file without any.
    """
    path = expanded(path)
    if not path.is_file():
        raise ArtifactError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
    if path.suffix.lower() in _OTHER_FORMATS:
        raise ArtifactError(f"{path}: is not read; problems come from JSON lines (.jsonl), which may be gzipped (.gz)")
    rows = [
        _row(_parsed(line, path, i), split, i, columns, f"{path}, row {i + 1}", skip_unanswered) for i, line in _lines(path)
    ]
    return _answered(rows, str(path), skip_unanswered, style, columns)


def from_hub(
    hub_id: str,
    subset: str | None,
    hub_split: str,
    revision: str | None,
    split: str,
    columns: Mapping[str, str],
    skip_unanswered: bool = False,
    style: str | None = None,
) -> list[dict[str, Any]]:
    """Problems of a fetched hub dataset at a pinned revision; arguments and errors as of `from_json_lines`.

    Raises HubError where it was not fetched, and ArtifactError where its files are broken or lack the subset or the split.
    A loading script in the repository is not fetched and would not be run.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from yaml import YAMLError

    where = f"{hub_id}/{hub_split}"
    folder = hub.snapshot(hub.Repository("dataset", hub_id, revision))
    try:
        source = load_dataset(str(folder), subset, split=hub_split)
    except (DatasetsError, YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise ArtifactError(f"{where}: cannot be read from {folder} ({error.__cause__ or error})") from error
    rows = [_row(row, split, i, columns, f"{where}, row {i + 1}", skip_unanswered) for i, row in enumerate(source)]
    return _answered(rows, where, skip_unanswered, style, columns)


def shared_questions(first: Sequence[Row], second: Sequence[Row]) -> int:
    """How many of the second problems ask a question of the first ones, but for blanks."""
    known = {_plain(row["question"]) for row in first}
    return sum(_plain(row["question"]) in known for row in second)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _style(row: Row, style: str | None, columns: Mapping[str, str]) -> str | None:
    """Whose grader a gold answer is for; behind "####" stand those of GSM8K."""
    worked = "answer" not in columns and "####" in (row["solution"] or "")
    return "gsm8k" if style is None and worked else style


def _answered(
    rows: list[dict[str, Any]], where: str, skip: bool, style: str | None, columns: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The rows that have an answer.

    Raises ArtifactError for the first without one, unless they may be skipped, and for the first
    whose answer nobody could give.
    """
    for row in rows:
        number = int(row["problem_id"].rsplit("-", 1)[1]) + 1
        if row["answer"] is None:
            if not skip:
                raise ArtifactError(f"{where}, row {number}: has no answer (neither '#### …' nor \\boxed{{…}} in its solution)")
        elif not golds.is_gradable(row["answer"], _style(row, style, columns)):
            what = f"the gold answer {row['answer'][:80]!r} is found wrong by its own grader where an answer states it"
            raise ArtifactError(f"{where}, row {number}: {what}; leave units and sentences out of that column")
    found = [row for row in rows if row["answer"] is not None]
    if not found:
        raise ArtifactError(f"{where}: has no problems")
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers.

    Raises ArtifactError for a file that cannot be read to its end or unfolds too far.
    """
    most = _ALWAYS + _MOST_UNFOLDED * path.stat().st_size
    read = 0
    try:
        with _opened(path) as file:
            for number in count():
                line = file.readline(_LONGEST_LINE + 1)
                read += len(line)
                if len(line) > _LONGEST_LINE or read > most or number > _MOST_LINES:
                    raise ArtifactError(f"{path}, row {number + 1}: is too long, or the file unfolds to more than text does")
                if not line:
                    return
                if number == 0:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # the byte-order mark of editors on Windows
                if line.strip():
                    yield number, line
    except (OSError, EOFError) as error:
        raise ArtifactError(f"{path}: cannot be read to its end ({error})") from error


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _parsed(line: bytes, path: Path, index: int) -> Any:
    where = f"{path}, row {index + 1}"
    if index == 0 and line.lstrip()[:1] == b"[":
        raise ArtifactError(f"{where}: is a JSON array; one object a line is read, which `jq -c '.[]' FILE` makes of an array")
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{where}: is not UTF-8 ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where}: is not JSON ({error})") from error


def _row(row: Any, split: str, index: int, columns: Mapping[str, str], where: str, skip: bool) -> dict[str, Any]:
    """A source row as a problem: `columns` maps question, solution and, if it stands apart, answer to its columns.

    skip: its answer may be missing.
    """
    if not isinstance(row, Mapping):
        raise ArtifactError(f"{where}: is no JSON object with columns")
    values = {}
    for name, column in columns.items():
        value = row.get(column)
        text = golds.of_column(value) if name == "answer" else value
        if skip and name == "answer" and column in row and value in (None, "", []):
            continue
        if not isinstance(text, str) or not text.strip():
            stands = f"its value is {str(value)[:60]!r}" if column in row else f"it has {', '.join(map(str, row))[:120]}"
            raise ArtifactError(f"{where}: has no {name} in column {column!r}; {stands}")
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise ArtifactError(f"{where}: {name} has half a character (a lone surrogate)")
        values[name] = text
    return {
        "problem_id": f"{split}-{index:05d}",
        "question": values["question"],
        "answer": values.get("answer") if "answer" in columns else golds.of_solution(values.get("solution", "")),
        "solution": values.get("solution"),
        **dict.fromkeys(("world", "signature", "language", "trap", "trap_rate")),
    }
