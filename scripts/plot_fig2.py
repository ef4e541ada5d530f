"""Draw Figure 2: pass@k of incorrect trajectories with their critical token kept and replaced."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--replacements", type=Path, nargs="+", required=True, help="tables of replacements, Parquet")
    parser.add_argument("--data", type=Path, required=True, help="the curves, CSV")
    parser.add_argument("--output", type=Path, required=True, help="the figure, PDF; a PNG is written beside it")
    args = parser.parse_args()

    from critical_tokens.reporting import canvas, figures, study_summaries

    curves = study_summaries.pass_at_k_curves(args.replacements, ("model", "dataset"))
    records.write_csv(args.data, curves)
    canvas.save(figures.pass_at_k_figure(curves), args.output)


if __name__ == "__main__":
    command_line.run(main)
