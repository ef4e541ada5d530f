"""How sure the differences of a cell's methods are: exact McNemar tests and paired bootstrap
intervals, corrected by Holm.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import batches, records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--model-name", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--entries", nargs="+", required=True, help="method:start:seed, in the order of --grades")
    parser.add_argument("--grades", type=Path, nargs="+", required=True, help="graded evaluations")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import table1

    verdicts = {}
    for entry, path in zip(args.entries, args.grades, strict=True):
        method, _, seed = entry.split(":")
        rows = batches.read_rows(path, "grades", ("problem_id", "correct"))
        verdicts.setdefault(int(seed), {})[method] = {r["problem_id"]: r["correct"] for r in rows}
    rows = table1.significance_rows(verdicts)
    frame = pd.DataFrame(rows)
    frame.insert(0, "dataset", args.dataset)
    frame.insert(0, "model", args.model_name)
    records.write_csv(args.output, frame)


if __name__ == "__main__":
    command_line.run(main)
