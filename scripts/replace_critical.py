"""The replacement test of Figure 2: continue answers from their critical token, and from others.

In the arm "kept" the critical token stays. In the arm "replaced" another token is drawn in its
place. Both are continued to full answers and graded.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.decoding import distributions
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_sampler(parser)
    sampling_arguments.add_grader(parser)
    command_line.add_tables(parser, "problems", "pairs", "critical")
    parser.add_argument("--draws", type=int, required=True, help="number of continuations per arm and answer")
    parser.add_argument(
        "--distribution",
        choices=distributions.DISTRIBUTIONS,
        required=True,
        help=f"distribution of the replacing tokens; {command_line.described(distributions.DISTRIBUTIONS)}",
    )
    parser.add_argument("--output", type=Path, required=True, help="table of the continuations, Parquet")
    args = parser.parse_args()
    run = provenance.Run("replace_critical", args)

    from critical_tokens.core.progress import Progress
    from critical_tokens.rollouts import branching, examination

    own = {"distribution": args.distribution, "seed": str(args.seed)}
    about = {**records.read_about(args.critical), **own}
    positions = {r["problem_id"]: r["position"] for r in records.read_table(args.critical, "critical")}
    pairs = [p for p in records.read_table(args.pairs, "pairs") if positions.get(p["problem_id"]) is not None]
    sampler = sampling_arguments.sampler(args, run, grader=args.grader)
    problems = records.read_table(args.problems, "problems")
    trajectories = examination.examined_trajectories(sampler, pairs, problems, args.seed)
    where = [positions[p["problem_id"]] for p in pairs]
    sampling = sampling_arguments.distribution(args)
    replacement = distributions.named(args.distribution, sampling)
    generation = examination.generation_settings(sampler, sampling, args.max_new_tokens)
    examined = (sampler.engine, trajectories, where, args.draws, generation)
    number = len(pairs) * args.draws
    progress = Progress(str(args.output), 2 * number, "continuations")
    arms = {
        "kept": branching.keep_token(*examined, progress.update),
        "replaced": branching.replace_token(*examined, replacement, lambda done: progress.update(number + done)),
    }
    progress.close()
    rows = [
        examination.replacement_row(
            {"problem_id": pair["problem_id"], "sample_id": pair["rejected_id"]}, arm, draw, branch
        )
        for arm, results in arms.items()
        for pair, branches in zip(pairs, results, strict=True)
        for draw, branch in enumerate(branches)
    ]
    records.write_table(args.output, "replacement", rows, about)
    run.describe(args.output, device=sampler.engine.device, tokens_generated=sampler.engine.tokens_generated)
    sampler.finish()


if __name__ == "__main__":
    command_line.run(main)
