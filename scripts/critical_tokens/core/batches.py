"""Reading and writing of tables in batches of rows, so that memory does not grow with their length.

`records` reads a whole table at once. That is simpler, and enough for tables with one row per
problem. But tables of sampled answers have many rows per problem, and tables of rollouts have one
row per token.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from critical_tokens.core import records
from critical_tokens.core.records import ArtifactError, Row
from critical_tokens.core.schemas import SCHEMAS

ROWS = records.ROW_GROUP
"""Rows of a batch by default, and rows of each row group of a written table."""


def add_batch_rows(p: argparse.ArgumentParser) -> None:
    """Add the option --batch-rows to a parser."""
    p.add_argument("--batch-rows", type=_count, default=ROWS, help="rows held in memory at a time")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def read_batches(path: Path, kind: str, columns: Sequence[str] | None = None, rows: int = ROWS) -> Iterator[pa.Table]:
    """Yield the rows of a table in their order, as tables of at most `rows` rows.

    columns: the columns to read; None reads all columns of the kind.

    Besides a batch, memory holds the columns of one row group, compressed as they are in the file.
    Raises ArtifactError, naming the file, where it is not a complete Parquet file or is a table of
    another kind.
    """
    names = list(columns or SCHEMAS[kind].names)
    with records.opening(path) as file:
        records.require_columns(file.schema_arrow.names, path, kind, names)
        # One iterator per row group: an iterator over several row groups keeps the data of all of
        # them in memory until it ends.
        for group in range(file.num_row_groups):
            batches = file.iter_batches(rows, [group], names)
            for batch in batches:
                yield records.conform(pa.Table.from_batches([batch]), path, kind, names)


def read_rows(
    path: Path, kind: str, columns: Sequence[str] | None = None, rows: int = ROWS
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table one by one; raises the same errors as `read_batches`."""
    for batch in read_batches(path, kind, columns, rows):
        yield from batch.to_pylist()


def read_problems(
    path: Path, kind: str, columns: Sequence[str] | None = None, rows: int = ROWS
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the id and the rows of each problem, in the order of the table.

    `columns` must include "problem_id". Raises the same errors as `read_batches`, and
    ArtifactError, naming the problem, where the rows of a problem are not next to each other.
    """
    seen: set[str] = set()
    for problem, slices in groupby(_slices(read_batches(path, kind, columns, rows)), key=lambda found: found[0]):
        if problem in seen:
            raise ArtifactError(
                f"{path}: the rows of problem {problem} are not neighbours; sort the table by problem_id"
            )
        seen.add(problem)
        yield problem, pa.concat_tables([part for _, part in slices])


def _slices(batches: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """Yield each run of consecutive rows of one problem within a batch, with the problem's id."""
    for batch in batches:
        start = 0
        for problem, run in groupby(batch["problem_id"].to_pylist()):
            length = sum(1 for _ in run)
            yield problem, batch.slice(start, length)
            start += length


class TableWriter:
    """A table that is being written, in row groups of ROWS rows; `rows` counts the rows so far.

    Rows that wait for their row group to fill are kept in Arrow's format, in which a token id takes
    4 bytes and not the 40 bytes of a Python integer.
    """

    def __init__(self, file: pq.ParquetWriter, kind: str) -> None:
        self.rows = 0
        self._file, self._schema = file, SCHEMAS[kind]
        self._waiting: list[pa.Table] = []

    def write(self, rows: Iterable[Row]) -> None:
        """Add rows, each a mapping with all columns of the kind."""
        left = iter(rows)
        while some := list(islice(left, ROWS)):
            self.add(pa.Table.from_pylist(some, schema=self._schema))

    def add(self, table: pa.Table) -> None:
        """Add the rows of a table that has the columns of the kind."""
        waiting = self.rows % ROWS
        self.rows += table.num_rows
        while waiting + table.num_rows >= ROWS:
            self._waiting.append(table.slice(0, ROWS - waiting))
            table = table.slice(ROWS - waiting)
            self.flush()
            waiting = 0
        if table.num_rows:
            self._waiting.append(table)

    def flush(self) -> None:
        """Write the waiting rows as one row group."""
        if self._waiting:
            # The rows are joined first, because the bytes of the file would otherwise depend on how
            # the rows were divided when they arrived.
            self._file.write_table(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting.clear()


@contextmanager
def writing(path: Path, kind: str, about: records.About | None = None) -> Iterator[TableWriter]:
    """Write a table batch by batch; the file appears only if the block ends without an error.

    `about` says what the table belongs to; it goes to the metadata (see `records.read_about`).
    """
    with (
        records.replacing(path) as temporary,
        temporary.open("wb") as opened,
        pq.ParquetWriter(opened, records.schema_of(kind, about), compression="zstd") as file,
    ):
        writer = TableWriter(file, kind)
        yield writer
        writer.flush()


def join_tables(path: Path, kind: str, parts: Sequence[Path]) -> int:
    """Write the rows of several tables one after the other; returns the number of rows.

    Raises ArtifactError where a part belongs to something else than the first one.
    """
    about = records.read_about(parts[0])
    for part in parts[1:]:
        own = records.read_about(part)
        for name in sorted({*about, *own}):
            if about.get(name) != own.get(name):
                what = f"its {name} is {own.get(name)}, but that of {parts[0]} is {about.get(name)}"
                raise ArtifactError(f"{part}: {what}")
    with writing(path, kind, about) as table:
        for part in parts:
            for batch in read_batches(part, kind):
                table.add(batch)
    return table.rows
