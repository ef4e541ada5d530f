"""Select the positive set, the negative set and the preference pairs from graded trajectories."""

from __future__ import annotations

import random
from pathlib import Path

from critical_tokens.core import batches, provenance, records
from critical_tokens.data import selection
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    command_line.add_tables(parser, "trajectories", "grades")
    parser.add_argument(
        "--coverage", type=float, required=True, help="share of the wrong samples that the negative set covers"
    )
    parser.add_argument(
        "--repeated-only",
        type=command_line.truth,
        required=True,
        metavar="true|false",
        help="leave out wrong answers that were sampled only once",
    )
    parser.add_argument("--seed", type=int, required=True, help="seed of the random choices")
    parser.add_argument("--positive", type=Path, required=True, help="table of the positive set to write, Parquet")
    parser.add_argument("--negative", type=Path, required=True, help="table of the negative set to write, Parquet")
    parser.add_argument("--pairs", type=Path, required=True, help="table of the preference pairs to write, Parquet")
    batches.add_batch_rows(parser)
    args = parser.parse_args()
    run = provenance.Run("select_answers", args)

    about = records.read_about(args.trajectories)
    with (
        batches.writing(args.positive, "answers", about) as positive,
        batches.writing(args.negative, "answers", about) as negative,
        batches.writing(args.pairs, "pairs", about) as pairs,
    ):
        for problem in selection.graded_problems(args.trajectories, args.grades, args.batch_rows):
            rng = random.Random(f"{args.seed}/{problem.problem_id}")
            chosen = selection.select(problem.samples, rng, args.coverage, args.repeated_only)
            answers = problem.answers((*chosen.positive, *chosen.negative))
            positive.write(answers[i] for i in chosen.positive)
            negative.write(answers[i] for i in chosen.negative)
            if chosen.pair:
                right, wrong = (answers[i] for i in chosen.pair)
                pairs.write([{
                    "problem_id": problem.problem_id,
                    "chosen_id": right["sample_id"],
                    "rejected_id": wrong["sample_id"],
                    "chosen": right["token_ids"],
                    "rejected": wrong["token_ids"],
                    "chosen_finished": right["finished"],
                    "rejected_finished": wrong["finished"],
                }])  # fmt: skip
    for path, table in ((args.positive, positive), (args.negative, negative), (args.pairs, pairs)):
        run.describe(path, rows=table.rows)


if __name__ == "__main__":
    command_line.run(main)
