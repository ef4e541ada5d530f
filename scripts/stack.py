"""Concatenate CSV tables that have the same columns."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="the tables, in their order, CSV")
    parser.add_argument("--output", type=Path, required=True, help="the whole table, CSV")
    args = parser.parse_args()

    import pandas as pd

    frames = [records.read_csv(path) for path in args.tables]
    for path, frame in zip(args.tables, frames, strict=True):
        if list(frame.columns) != list(frames[0].columns):
            raise records.ArtifactError(f"{path}: does not have the same columns as {args.tables[0]}")
    records.write_csv(args.output, pd.concat(frames, ignore_index=True))


if __name__ == "__main__":
    command_line.run(main)
