"""pass@k of Figure 2 with replacements from several distributions, over seeds of the rollouts."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--replacements", type=Path, nargs="+", required=True, help="tables of replacements, Parquet")
    parser.add_argument("--output", type=Path, required=True, help="a row per cell, distribution and k, CSV")
    args = parser.parse_args()

    from critical_tokens.reporting import study_summaries

    records.write_csv(args.output, study_summaries.replacement_curves(args.replacements))


if __name__ == "__main__":
    command_line.run(main)
