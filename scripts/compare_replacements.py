"""Figure 2's pass@k with replacements from other distributions, over seeds of the rollouts."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.reporting import study_summaries
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--replacements", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    rows = []
    for path in args.replacements:
        about = records.read_about(path, ("model", "dataset", "distribution", "seed"))
        own = {name: about[name] for name in ("model", "dataset", "distribution", "seed")}
        rows += [own | row for row in study_summaries.pass_at_k_rows(path) if row["arm"] == "replaced"]
    curves = pd.DataFrame(rows).groupby(["model", "dataset", "distribution", "k"], sort=False)["pass_at_k"]
    records.write_csv(args.output, curves.agg(seeds="count", mean="mean", deviation="std").reset_index())


if __name__ == "__main__":
    command_line.run(main)
