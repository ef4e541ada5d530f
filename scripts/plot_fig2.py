"""Figure 2: pass@k of incorrect trajectories with their critical token kept and replaced."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.reporting import study_summaries
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--replacements", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True, help="the curves, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, figures

    rows = []
    for path in args.replacements:
        cell = records.read_about(path, ("model", "dataset"))
        named = {"model": cell["model"], "dataset": cell["dataset"]}
        rows += [named | row for row in study_summaries.pass_at_k_rows(path)]
    curves = pd.DataFrame(rows)
    records.write_csv(args.data, curves)
    canvas.save(figures.pass_at_k_figure(curves), args.output)


if __name__ == "__main__":
    command_line.run(main)
