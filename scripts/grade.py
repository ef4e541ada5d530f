"""Extract and grade the answers of sampled trajectories."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from critical_tokens.core import batches, provenance, records
from critical_tokens.grading import answers, verify
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    command_line.add_tables(parser, "trajectories", "problems")
    parser.add_argument("--style", required=True, help="style of the prompts, which decides how an answer is extracted")
    parser.add_argument(
        "--grader",
        choices=answers.GRADERS,
        required=True,
        help="grader whose verdict decides whether an answer is correct",
    )
    parser.add_argument("--output", type=Path, required=True, help="table of both graders' verdicts, Parquet")
    batches.add_batch_rows(parser)
    args = parser.parse_args()
    run = provenance.Run("grade", args)

    gold = batches.read_rows(args.problems, "problems", ("problem_id", "answer"))
    problems = records.ByProblem(gold, args.problems)
    columns = ("problem_id", "sample_id", "text", "finished")
    counted = Counter(correct=0, truncated=0, **answers.counts([]))
    with (
        verify.Workers() as workers,
        batches.writing(args.output, "grades", records.read_about(args.trajectories)) as output,
    ):
        for batch in batches.read_batches(args.trajectories, "trajectories", columns, args.batch_rows):
            samples = batch.to_pylist()
            asked = [problems[name] for name in dict.fromkeys(sample["problem_id"] for sample in samples)]
            rows = answers.grade_rows(samples, asked, args.style, args.grader, workers)
            output.write(rows)
            counted.update(answers.counts(rows))
            counted.update(correct=sum(r["correct"] for r in rows), truncated=sum(not s["finished"] for s in samples))
    run.describe(args.output, **counted)


if __name__ == "__main__":
    command_line.run(main)
