"""Draw Figure 6: log-probabilities of chosen and rejected answers while methods train."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--histories", type=Path, nargs="+", required=True, help="histories of trainings, CSV")
    parser.add_argument("--window", type=int, required=True, help="number of updates that are averaged into a point")
    parser.add_argument("--data", type=Path, required=True, help="the curves, CSV")
    parser.add_argument("--output", type=Path, required=True, help="the figure, PDF; a PNG is written beside it")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, figures, study_summaries

    columns = ("model", "dataset", "method", "seed", "step", "chosen_logps", "rejected_logps")
    table = pd.concat([records.read_csv(path, columns) for path in args.histories], ignore_index=True)
    curves = study_summaries.log_probability_curves(table, args.window)
    records.write_csv(args.data, curves)
    canvas.save(figures.log_probability_figure(curves), args.output)


if __name__ == "__main__":
    command_line.run(main)
