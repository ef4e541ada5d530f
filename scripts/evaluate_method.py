"""Evaluate a model with its adapters on test problems, by greedy decoding or by several samples."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.grading import answers
from critical_tokens.reporting import estimates
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    command_line.add_about(parser)
    sampling_arguments.add_sampler(parser, adapters=True)
    sampling_arguments.add_grader(parser)
    command_line.add_tables(parser, "problems")
    parser.add_argument(
        "--limit", type=command_line.optional(int), help="number of problems, from the first (all by default)"
    )
    parser.add_argument("--samples", type=int, default=1, help="answers per problem (1 by default)")
    parser.add_argument("--output", type=Path, required=True, help="table of the answers, Parquet")
    parser.add_argument("--grades", type=Path, required=True, help="table of both graders' verdicts, Parquet")
    parser.add_argument("--metrics", type=Path, required=True, help="accuracy with its interval, and counts, JSON")
    args = parser.parse_args()
    run = provenance.Run("evaluate_method", args)

    problems = records.read_table(args.problems, "problems")[: args.limit]
    if not problems:
        raise records.ArtifactError(f"{args.problems}: has no problem to evaluate (--limit is {args.limit})")

    sampler = sampling_arguments.sampler(args, run, args.adapters)
    samples = sampler.sample(
        problems, args.samples, sampling_arguments.distribution(args), args.max_new_tokens, args.seed, str(args.output)
    )
    grades = answers.grade_rows(samples, problems, args.style, args.grader)
    n, correct = len(grades), sum(g["correct"] for g in grades)
    low, high = estimates.accuracy_interval([(g["problem_id"], g["correct"]) for g in grades])
    about = command_line.about(args)
    metrics = {
        **about,
        "n": n,
        "samples": args.samples,
        "correct": correct,
        "accuracy": correct / n,
        "low": low,
        "high": high,
        **answers.counts(grades),
        "truncated": sum(not s["finished"] for s in samples),
    }
    records.write_table(args.output, "trajectories", samples, about)
    records.write_table(args.grades, "grades", grades, about)
    records.write_json(args.metrics, metrics)
    run.describe(args.grades, grader=args.grader)
    run.describe(args.output, device=sampler.engine.device, tokens_generated=sampler.engine.tokens_generated, **metrics)
    sampler.finish()


if __name__ == "__main__":
    command_line.run(main)
