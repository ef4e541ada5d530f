"""Figure 2: pass@k of incorrect trajectories with their critical token kept and replaced."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import cli, records, studies


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--cells", nargs="+", required=True, help="model:dataset, in the order of --replacements")
    parser.add_argument("--replacements", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True, help="the curves, CSV")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens import plots

    rows = []
    for cell, path in zip(args.cells, args.replacements, strict=True):
        model, dataset = cell.split(":")
        rows += [{"model": model, "dataset": dataset, **row} for row in studies.pass_at_k_rows(path)]
    curves = pd.DataFrame(rows)
    records.write_csv(args.data, curves)
    plots.save(plots.pass_at_k_figure(curves), args.output)


if __name__ == "__main__":
    cli.run(main)
