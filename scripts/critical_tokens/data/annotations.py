"""First errors that people found: a CSV file that stands in for the step checker on real data."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from critical_tokens.core.records import ArtifactError

COLUMNS = ("problem_id", "answer", "offset", "error_kind")


class Annotation(NamedTuple):
    """The first wrong character of an answer, and the kind of error (the paper's, or the
    annotators' own).
    """

    offset: int
    error_kind: str


def read(path: Path) -> dict[tuple[str, str], Annotation]:
    """Annotations by problem and answer text. Raises ArtifactError naming file and row for anything
    else.

    Columns: problem_id; answer, the text that was annotated, so that no annotation is taken for
    another answer's; offset of the first wrong character in it (its length: something is missing at
    the end); error_kind. An answer may be annotated several times, but not in two ways.
    """
    found: dict[tuple[str, str], Annotation] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ArtifactError(f"{path}: has no column {', '.join(missing)}; columns are separated by commas")
            for number, row in enumerate(reader, 2):
                key, annotation = _annotation(row, f"{path}, row {number}")
                if found.setdefault(key, annotation) != annotation:
                    raise ArtifactError(
                        f"{path}, row {number}: problem {key[0]} has another annotation of the same answer"
                    )
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: is not UTF-8 ({error}); spreadsheets save that as 'CSV UTF-8'") from error
    except csv.Error as error:
        raise ArtifactError(f"{path}: is no CSV file ({error})") from error
    return found


def of_answer(annotated: Mapping[tuple[str, str], Annotation], problem_id: str, text: str) -> Annotation | None:
    """The annotation of an answer, which may have been annotated without the blank that it begins
    with.
    """
    blank = len(text) - len(text.removeprefix(" "))
    found = annotated.get((problem_id, text))
    if found is None and blank and (found := annotated.get((problem_id, text[blank:]))):
        return found._replace(offset=found.offset + blank)
    return found


def _annotation(row: dict[str, str | None], where: str) -> tuple[tuple[str, str], Annotation]:
    if None in row:
        raise ArtifactError(
            f"{where}: has more cells than there are columns; a text with commas stands in quotation marks"
        )
    problem, kind = ((row[name] or "").strip() for name in ("problem_id", "error_kind"))
    answer, offset = row["answer"] or "", (row["offset"] or "").strip()
    for name, value in (("problem_id", problem), ("error_kind", kind)):
        if not value:
            raise ArtifactError(f"{where}: has no {name}")
    # Python refuses to read numbers of thousands of digits.
    if not offset.isdecimal() or len(offset) > 9 or int(offset) > len(answer):
        raise ArtifactError(f"{where}: offset is {offset[:20]!r}, must be a number from 0 to {len(answer)}")
    return (problem, answer), Annotation(int(offset), kind)
