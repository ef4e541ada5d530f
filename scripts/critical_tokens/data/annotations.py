"""Human annotations of first errors, in a CSV file; they replace the step checker on real data."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from critical_tokens.core.records import ArtifactError

COLUMNS = ("problem_id", "answer", "offset", "error_kind")


class Annotation(NamedTuple):
    """The first error of an answer.

    offset: the index of the first wrong character.
    error_kind: the kind of the error, in the paper's or in the annotators' own terms.
    """

    offset: int
    error_kind: str


def read(path: Path) -> dict[tuple[str, str], Annotation]:
    """Read the annotations of a CSV file, by problem id and text of the answer.

    Columns of the file:
    problem_id: the problem of the answer.
    answer: the text that was annotated. An annotation applies to an answer with this text only.
    offset: the index of the first wrong character in the text; the length of the text where
        something is missing at its end.
    error_kind: the kind of the error.

    An answer may be annotated several times, but always in the same way. Raises ArtifactError,
    naming the file and the row, for anything else.
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
    """The annotation of an answer; the annotated text may lack the answer's leading blank."""
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
    # The length is limited because Python refuses to convert numbers of thousands of digits.
    if not offset.isdecimal() or len(offset) > 9 or int(offset) > len(answer):
        raise ArtifactError(f"{where}: offset is {offset[:20]!r}, must be a number from 0 to {len(answer)}")
    return (problem, answer), Annotation(int(offset), kind)
