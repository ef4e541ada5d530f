"""Figure 6: log-probabilities of chosen and rejected answers while methods train."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--histories", type=Path, nargs="+", required=True)
    parser.add_argument("--window", type=int, required=True, help="updates averaged into a point")
    parser.add_argument("--data", type=Path, required=True, help="the curves, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import canvas, figures

    columns = ("model", "dataset", "method", "seed", "step", "chosen_logps", "rejected_logps")
    table = pd.concat([records.read_csv(path, columns) for path in args.histories], ignore_index=True)
    # A batch holds other pairs at every update, so single updates are noise: average windows of
    # them, and the seeds.
    table["step"] = (table["step"] - 1) // args.window * args.window + (args.window + 1) / 2
    keys = ["model", "dataset", "method", "step"]
    grouped = table.rename(columns={"chosen_logps": "chosen", "rejected_logps": "rejected"}).groupby(keys, sort=False)
    curves = grouped[["chosen", "rejected"]].mean()
    error = 1.96 * grouped[["chosen", "rejected"]].sem().fillna(
        0.0
    )  # of the mean over a window's updates and the seeds
    for side in ("chosen", "rejected"):
        curves[f"{side}_low"], curves[f"{side}_high"] = (curves[side] - error[side], curves[side] + error[side])
    curves = curves.reset_index()
    records.write_csv(args.data, curves)
    canvas.save(figures.log_probability_figure(curves), args.output)


if __name__ == "__main__":
    command_line.run(main)
