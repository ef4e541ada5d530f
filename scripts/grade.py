"""Extract and grade the answers of sampled trajectories."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import answers, cli, provenance, records


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--trajectories", type=Path, required=True)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--style", required=True, help="prompt style, which decides how an answer is extracted")
    parser.add_argument("--grader", choices=answers.GRADERS, required=True, help="which verdict labels data")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("grade", args)

    samples = records.read_table(args.trajectories, "trajectories")
    rows = answers.grade_rows(samples, records.read_table(args.problems, "problems"), args.style, args.grader)
    records.write_table(args.output, "grades", rows)
    run.describe(
        args.output,
        correct=sum(r["correct"] for r in rows),
        **answers.counts(rows),
        truncated=sum(not s["finished"] for s in samples),
    )


if __name__ == "__main__":
    cli.run(main)
