"""Join the parts of a table in their order."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import batches, parts, provenance
from critical_tokens.workflow import command_line

# Entries of the parts' metadata whose sum belongs to the whole table.
SUMMED = ("tokens_generated", "correct", "truncated", "released", "math_verify", "unanswered", "timed_out")


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--table", required=True, choices=("trajectories", "grades", "rollouts"), help="kind of the table"
    )
    parser.add_argument("--parts", type=Path, nargs="+", required=True, help="the parts, in their order, Parquet")
    parser.add_argument("--output", type=Path, required=True, help="the whole table, Parquet")
    args = parser.parse_args()
    run = provenance.Run("gather", args)
    metas = parts.read_metas(args.parts)
    rows = batches.join_tables(args.output, args.table, args.parts)
    sums = {key: sum(m[key] for m in metas) for key in SUMMED if all(isinstance(m.get(key), int) for m in metas)}
    run.describe(args.output, rows=rows, parts=len(metas), **sums)


if __name__ == "__main__":
    command_line.run(main)
