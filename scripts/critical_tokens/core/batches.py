"""Tables read and written a bounded number of rows at a time, so that memory does not grow with
their length.

`records` reads a table whole, which is simpler and right for what has a row per problem. Tables of
sampled answers have many rows per problem, and tables of rollouts have a row per token.
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
from critical_tokens.core.records import SCHEMAS, ArtifactError, Row

ROWS = records.ROW_GROUP
"""Rows read at a time where nothing else is asked for, and rows of each row group that is written."""


def add_batch_rows(p: argparse.ArgumentParser) -> None:
    """--batch-rows."""
    p.add_argument("--batch-rows", type=_count, default=ROWS, help="rows held at a time, which bounds the memory")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def read_batches(path: Path, kind: str, columns: Sequence[str] | None = None, rows: int = ROWS) -> Iterator[pa.Table]:
    """The rows of a table in their order, as tables of at most `rows` rows with those columns (all
    of them by default).

    Beside them, the columns of one row group are held as they are in the file, compressed. Raises
    ArtifactError, as `records.read_table` does, where the file is truncated, foreign or of another
    kind.
    """
    names = list(columns or SCHEMAS[kind].names)
    with records.opening(path) as file:
        records.require_columns(file.schema_arrow.names, path, kind, names)
        # One row group after another: a reader of several keeps what it has read of all of them
        # until its end.
        for group in range(file.num_row_groups):
            batches = file.iter_batches(rows, [group], names)
            for batch in batches:
                yield records.conform(pa.Table.from_batches([batch]), path, kind, names)


def read_rows(
    path: Path, kind: str, columns: Sequence[str] | None = None, rows: int = ROWS
) -> Iterator[dict[str, Any]]:
    """The rows of a table one by one; errors as `read_batches`."""
    for batch in read_batches(path, kind, columns, rows):
        yield from batch.to_pylist()


def read_problems(
    path: Path, kind: str, columns: Sequence[str] | None = None, rows: int = ROWS
) -> Iterator[tuple[str, pa.Table]]:
    """Each problem's id and its rows, in the order of the table; `columns` has "problem_id". Errors
    as `read_batches`.

    Raises ArtifactError, naming the problem, where its rows are not neighbours.
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
    """Each run of rows of one problem within a batch."""
    for batch in batches:
        start = 0
        for problem, run in groupby(batch["problem_id"].to_pylist()):
            length = sum(1 for _ in run)
            yield problem, batch.slice(start, length)
            start += length


class TableWriter:
    """A table that is being written, in row groups of ROWS rows however they come. `rows` counts
    what it was given so far.

    Rows wait as Arrow's, where a token takes 4 bytes and not the 40 of a Python number.
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
        """Write what waits, as a row group of its own."""
        if self._waiting:
            # In one piece, since the pages of a file would otherwise depend on the pieces.
            self._file.write_table(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting.clear()


@contextmanager
def writing(path: Path, kind: str, about: records.About | None = None) -> Iterator[TableWriter]:
    """Write a table piece by piece. It appears when the block ends well, or not at all.

    `about` goes to its metadata, see `records.read_about`.
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
    """Write the rows of several tables behind one another; returns their number."""
    with writing(path, kind, records.read_about(parts[0])) as table:
        for part in parts:
            for batch in read_batches(part, kind):
                table.add(batch)
    return table.rows
