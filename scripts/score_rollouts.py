"""Score the tokens of incorrect trajectories by rollouts.

The score of a token is the share of correct answers among continuations of the prefix that ends
with this token.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from critical_tokens.core import batches, provenance, records
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_sampler(parser)
    sampling_arguments.add_grader(parser)
    command_line.add_tables(parser, "problems", "pairs")
    parser.add_argument(
        "--trajectories",
        type=command_line.optional(int),
        help="number of rejected answers that are scored, drawn at random (all by default)",
    )
    sampling_arguments.add_shard(parser)
    parser.add_argument(
        "--method",
        choices=("coupled", "independent", "stratified"),
        required=True,
        help="independent: every token has its own continuations, as in the paper; coupled: tokens share them; "
        "stratified: fewer are needed, because probabilities of leaving the answer are computed",
    )
    parser.add_argument(
        "--rollouts",
        type=command_line.optional(int),
        help="number of continuations per token, for the methods coupled and independent",
    )
    parser.add_argument(
        "--branches",
        type=command_line.optional(float),
        help="expected continuations where the answer's next token has probability 0, for the method stratified",
    )
    parser.add_argument(
        "--until-critical",
        type=command_line.optional(float),
        nargs="+",
        default=[None],
        metavar=("LATER_BELOW", "ZERO_UP_TO"),
        help="score from the last token backwards, until these thresholds decide the critical token",
    )
    parser.add_argument("--output", type=Path, required=True, help="table of the scores, a row per token, Parquet")
    args = parser.parse_args()
    run = provenance.Run("score_rollouts", args)

    from critical_tokens.core.progress import Progress
    from critical_tokens.rollouts import critical, examination, scores

    about = {**records.read_about(args.pairs), "seed": str(args.seed)}
    problems = records.read_table(args.problems, "problems")
    pairs = examination.rejected_answers(records.read_table(args.pairs, "pairs"), args.trajectories, args.seed)
    pairs = sampling_arguments.shard_of(args, pairs)
    sampler = sampling_arguments.sampler(args, run, grader=args.grader)
    trajectories = examination.examined_trajectories(sampler, pairs, problems, args.seed)
    planner = {
        "coupled": lambda: scores.coupled(args.rollouts),
        "independent": lambda: scores.independent(args.rollouts),
        "stratified": lambda: scores.stratified(args.branches),
    }[args.method]()
    generation = examination.generation_settings(sampler, sampling_arguments.distribution(args), args.max_new_tokens)
    settled = None
    if args.until_critical != [None]:
        later_below, zero_up_to = args.until_critical
        settled = partial(critical.settled, later_below=later_below, zero_up_to=zero_up_to)
    progress = Progress(str(args.output), 0, "continuations")
    curves = scores.score(sampler.engine, trajectories, planner, generation, progress.update_of, settled)
    progress.close()
    with batches.writing(args.output, "rollouts", about) as output:
        output.write(
            {"problem_id": pair["problem_id"], "sample_id": pair["rejected_id"], **vars(score)}
            for pair, of_pair in zip(pairs, curves, strict=True)
            for score in of_pair
        )
    run.describe(
        args.output,
        trajectories=len(pairs),
        device=sampler.engine.device,
        tokens_generated=sampler.engine.tokens_generated,
    )
    sampler.finish()


if __name__ == "__main__":
    command_line.run(main)
