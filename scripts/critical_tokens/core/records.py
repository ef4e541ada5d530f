"""Reading and writing of artifacts: atomic, typed, and with errors that name the file and the row.

Tables are Parquet files, compressed with zstd; `schemas` lists the columns of each kind of table.

All functions that read raise ArtifactError, naming the file, where it is missing, damaged or of
another kind. The docstrings below mention further errors only.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from critical_tokens.core.schemas import KEYS, SCHEMAS

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
"""A row of a table, or a plain mapping with its columns."""

About = Mapping[str, str]
"""What an artifact belongs to, by name: model, dataset, method, seed and so on."""

ROW_GROUP = 4096
"""Rows of a row group; readers hold at least one row group in memory (see `batches`)."""

_ABOUT = b"critical_tokens"  # the metadata key under which a table says what it belongs to


def expanded(path: str | Path) -> Path:
    """A user's path with "~" expanded to a home folder; the "~" of an unknown user stays."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


class Failure(Exception):
    """An error that the user can mend: programs print its message instead of a traceback."""


class ArtifactError(Failure):
    """A file is missing, damaged, or not of the kind that it should be."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` if the block ends without an error, else is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a folder: at the end, its files are moved into `path` one by one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    try:
        with naming(path):
            yield temporary
            path.mkdir(parents=True, exist_ok=True)
            for file in sorted(temporary.iterdir()):
                file.replace(path / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to errors of the system: the error of a full disk does not name the file."""
    try:
        yield
    except OSError as error:
        if error.filename or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def schema_of(kind: str, about: About | None = None) -> pa.Schema:
    """The schema of a kind of table, with `about` in its metadata."""
    return SCHEMAS[kind].with_metadata({_ABOUT: json.dumps(about, sort_keys=True)}) if about else SCHEMAS[kind]


def read_about(path: Path, names: Sequence[str] = ()) -> dict[str, str]:
    """What a table belongs to, from its metadata; ArtifactError where one of `names` is missing."""
    with opening(path) as file:
        stated = (file.schema_arrow.metadata or {}).get(_ABOUT, b"{}")
    try:
        about = {str(name): str(value) for name, value in json.loads(stated).items()}
    except (ValueError, AttributeError, RecursionError):
        about = {}  # foreign metadata under our key says nothing
    missing = [name for name in names if name not in about]
    if missing:
        raise ArtifactError(f"{path}: does not say its {', '.join(missing)}; remove it, and it is made again")
    return about


def write_table(path: Path, kind: str, rows: Sequence[Row], about: About | None = None) -> None:
    """Write rows, which have all columns of the kind, as Parquet; `about` goes to its metadata."""
    table = pa.Table.from_pylist(list(rows), schema=schema_of(kind, about))
    with replacing(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file, row_group_size=ROW_GROUP, compression="zstd")


def read_table(path: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of a table; ArtifactError also where two rows have the same ids."""
    return _read(path, kind, SCHEMAS[kind].names).to_pylist()


def read_by_problem(path: Path, kind: str, column: str | None = None) -> ByProblem:
    """The rows of a table, or the values of one column, by problem id."""
    return ByProblem(read_table(path, kind), path, column)


class ByProblem(dict[str, Any]):
    """Rows, or their values in one column, by problem id.

    Raises ArtifactError, naming `where` the rows are from, for an id that has two different values,
    and for access to an unknown id.
    """

    def __init__(self, rows: Iterable[Row], where: object, column: str | None = None) -> None:
        super().__init__()
        self._where = where
        for row in rows:
            value = row if column is None else row[column]
            if self.setdefault(row["problem_id"], value) != value:
                raise ArtifactError(f"{where}: has problem {row['problem_id']} twice, with different contents")

    def __missing__(self, problem_id: str) -> Any:
        raise ArtifactError(f"{self._where}: has no problem {problem_id}, which another table names")


def read_frame(path: Path, kind: str, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a table as a data frame, for summaries and figures."""
    return _read(path, kind, columns).to_pandas()


def _read(path: Path, kind: str, columns: Sequence[str]) -> pa.Table:
    with opening(path) as file:
        require_columns(file.schema_arrow.names, path, kind, columns)
        table = conform(file.read(list(columns)), path, kind, columns)
    if set(KEYS[kind]) <= set(columns):
        _check_keys(table, path, KEYS[kind])
    return table


@contextmanager
def opening(path: Path) -> Iterator[pq.ParquetFile]:
    """An open Parquet file; the block that reads it may find out that it is incomplete."""
    # Arrow is given the path as bytes. It could not open a text that the locale cannot encode, and
    # it would take a folder "x=1" in a text for a column x.
    try:
        with pa.OSFile(os.fsencode(path)) as file, pq.ParquetFile(file) as parquet:
            yield parquet
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: does not exist") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path}: is not a complete Parquet file ({error})") from error


def require_columns(found: Sequence[str], path: Path, kind: str, needed: Sequence[str]) -> None:
    """Raise ArtifactError where a file lacks one of the needed columns."""
    missing = [name for name in needed if name not in found]
    if missing:
        raise ArtifactError(f"{path}: is not a table of {kind}: no column {', '.join(missing)}")


def conform(table: pa.Table, path: Path, kind: str, columns: Sequence[str]) -> pa.Table:
    """The given columns of a table, cast to the kind's types; ArtifactError if they do not fit."""
    schema = pa.schema([SCHEMAS[kind].field(name) for name in columns])
    try:
        found = table.select(schema.names).cast(schema)
        found.validate(full=True)  # checks, among others, that texts are UTF-8
        return found
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise ArtifactError(f"{path}: is not a table of {kind}: {error}") from error


def _check_keys(table: pa.Table, path: Path, keys: Sequence[str]) -> None:
    """Raise ArtifactError where two rows have the same ids."""
    named = table.select(keys).combine_chunks()
    counts = named.group_by(keys).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if twice.num_rows:
        ids = ", ".join(f"{key} {twice[key][0].as_py()}" for key in keys)
        raise ArtifactError(f"{path}: has several rows with {ids}; remove it, and it is made again")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys and a final newline."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    # Bytes of a path that cannot be decoded (lone surrogates in Python) are written as escapes.
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8; an error also names the line that is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: does not exist") from error
    except IsADirectoryError as error:
        raise ArtifactError(f"{path}: is a folder, must be a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: is not JSON ({error})") from error


def read_object(path: Path, keys: Iterable[str] = ()) -> dict[str, Any]:
    """A JSON object with at least these keys; ArtifactError also where one is missing."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ArtifactError(f"{path}: is no JSON object")
    missing = [key for key in keys if key not in found]
    if missing:
        raise ArtifactError(f"{path}: has no {', '.join(missing)}; remove it, and it is made again")
    return found


def read_numbers(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON object with finite numbers under these keys; ArtifactError also where one is not."""
    found = read_object(path, keys)
    for key in keys:
        value = found[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ArtifactError(f"{path}: {key} is {str(value)[:60]!r}, not a number; remove it, and it is made again")
    return found


def read_csv(path: Path, columns: Iterable[str] = (), separator: str = ",") -> pd.DataFrame:
    """A CSV file in UTF-8 as a data frame; ArtifactError also where a column is missing."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: does not exist") from error
    except ValueError as error:
        raise ArtifactError(f"{path}: is not CSV in UTF-8 ({error})") from error
    missing = sorted(set(columns) - set(frame.columns))
    if missing:
        raise ArtifactError(f"{path}: has no column {', '.join(missing)}")
    return frame


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a data frame as CSV, floats with six significant digits."""
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", encoding="utf-8")
