"""First errors that people found: a CSV file that stands in for the step checker on real data."""

from __future__ import annotations

import csv
from collections.abc import Mapping
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
    first wrong character in it (its length: something is missing at the end); error_kind. An answer may be annotated several
    times, but not in two ways.
    """
    found: dict[tuple[str, str], Annotation] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ArtifactError(f"{path}: has no column {', '.join(missing)}")
            for number, row in enumerate(reader, 2):
                key, annotation = _annotation(row, f"{path}, row {number}")
                if found.setdefault(key, annotation) != annotation:
                    raise ArtifactError(f"{path}, row {number}: problem {key[0]} has another annotation of the same answer")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{path}: {error}") from error
    return found


def of_answer(annotated: Mapping[tuple[str, str], Annotation], problem_id: str, text: str) -> Annotation | None:
    """The annotation of an answer, which may have been annotated without the blank that it begins with."""
    blank = len(text) - len(text.removeprefix(" "))
    found = annotated.get((problem_id, text))
    if found is None and blank and (found := annotated.get((problem_id, text[blank:]))):
        return found._replace(offset=found.offset + blank)
    return found


def _annotation(row: dict[str, str | None], where: str) -> tuple[tuple[str, str], Annotation]:
    answer, offset, kind = row["answer"] or "", row["offset"] or "", (row["error_kind"] or "").strip()
    if not offset.isdecimal() or int(offset) > len(answer):
        raise ArtifactError(f"{where}: offset is {offset!r}, must be a number from 0 to {len(answer)}")
    if not kind:
        raise ArtifactError(f"{where}: has no error_kind")
    return (row["problem_id"] or "", answer), Annotation(int(offset), kind)
