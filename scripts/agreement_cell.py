"""Measure how well contrastive scores agree with the rollouts and with the step checker in a cell.

For the rollouts, the positive token of an answer is its critical token. For the step checker, it is
the first wrong token. All other tokens are negative. AUC is the chance that a positive token has a
lower score than a negative one. The control uses the base model's probability as the score.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--variant", default="default", help="name of the variant of the contrastive scores")
    command_line.add_tables(parser, "critical", "contrast", "reference")
    parser.add_argument("--output", type=Path, required=True, help="table of one row, CSV")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import agreement

    critical = records.read_table(args.critical, "critical")
    contrast = records.read_by_problem(args.contrast, "contrast", "scores")
    base = records.read_by_problem(args.reference, "reference", "rejected_logps")
    row = agreement.agreement_row(critical, contrast, base)
    cell = records.read_about(args.contrast, ("model", "dataset"))
    named = {"model": cell["model"], "dataset": cell["dataset"], "variant": args.variant}
    records.write_csv(args.output, pd.DataFrame([named | row]))


if __name__ == "__main__":
    command_line.run(main)
