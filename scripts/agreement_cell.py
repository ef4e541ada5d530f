"""How well contrastive scores and rollouts agree on critical tokens, with each other and with the
planted truth.

A token is labelled critical by the rollouts if it is the critical token that they found, and by the
checker if it is the first wrong token; all other tokens of the examined answers are not. AUC is the
chance that a critical token has the lower score, contrastive or, as a control, the base model's
probability.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--variant", default="default", help="of the contrastive scores")
    parser.add_argument("--critical", type=Path, required=True)
    parser.add_argument("--contrast", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True, help="the base model's log-probabilities")
    parser.add_argument("--output", type=Path, required=True)
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
