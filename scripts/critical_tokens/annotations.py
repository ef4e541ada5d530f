"""First errors that people found: a CSV file that stands in for the step checker on real data."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from critical_tokens.records import ArtifactError

COLUMNS = ("problem_id", "answer", "offset", "error_kind")


class Annotation(NamedTuple):
    """The first wrong character of an answer, and the kind of error (the paper's, or the annotators' own)."""

    offset: int
    error_kind: str


def read(path: Path) -> dict[tuple[str, str], Annotation]:
    """Annotations by problem and answer text. Raises ArtifactError naming file and row for anything else.

    Columns: problem_id; answer, the text that was annotated, so that no annotation is taken for another answer's; offset of the
    first wrong character in it (its length: something is missing at the end); error_kind.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ArtifactError(f"{path}: has no column {', '.join(missing)}")
            return dict(_annotation(row, f"{path}, row {number}") for number, row in enumerate(reader, 2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{path}: {error}") from error


def _annotation(row: dict[str, str | None], where: str) -> tuple[tuple[str, str], Annotation]:
    answer, offset, kind = row["answer"] or "", row["offset"] or "", (row["error_kind"] or "").strip()
    if not offset.isdecimal() or int(offset) > len(answer):
        raise ArtifactError(f"{where}: offset is {offset!r}, must be a number from 0 to {len(answer)}")
    if not kind:
        raise ArtifactError(f"{where}: has no error_kind")
    return (row["problem_id"] or "", answer), Annotation(int(offset), kind)
