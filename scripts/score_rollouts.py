"""Score every token of incorrect trajectories by rollouts: how many of n continuations from there are correct."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import arguments, cli, provenance, records


def main() -> None:
    parser = cli.parser(__doc__)
    arguments.add_model(parser)
    arguments.add_sampling(parser)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="their rejected answers are examined")
    parser.add_argument("--trajectories", type=int, help="how many of them, drawn at random (all by default)")
    parser.add_argument("--rollouts", type=int, required=True, help="continuations per token")
    parser.add_argument("--method", choices=("coupled", "independent"), required=True)
    parser.add_argument("--style", required=True, help="prompt style")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("score_rollouts", args)

    from critical_tokens import branching, examination
    from critical_tokens.progress import Progress
    from critical_tokens.sampler import Sampler

    problems = records.read_table(args.problems, "problems")
    pairs = examination.rejected_answers(records.read_table(args.pairs, "pairs"), args.trajectories, args.seed)
    sampler = Sampler(arguments.model_source(args), [], args.style, args.max_batch_tokens)
    trajectories = examination.examined_trajectories(sampler, pairs, problems, args.seed)
    progress = Progress(str(args.output), args.rollouts * sum(len(t.answer) + 1 for t in trajectories), "continuations")
    score = {"coupled": branching.score_coupled, "independent": branching.score_independently}[args.method]
    budget = branching.Budget(arguments.distribution(args), args.max_new_tokens, sampler.tokenizer.eos_token_id)
    scores = score(sampler.engine, trajectories, args.rollouts, budget, progress.update)
    progress.close()
    rows = [
        {
            "problem_id": pair["problem_id"],
            "sample_id": pair["rejected_id"],
            "position": score.position,
            "n": score.n,
            "correct": score.correct,
        }
        for pair, of_pair in zip(pairs, scores, strict=True)
        for score in of_pair
    ]
    records.write_table(args.output, "rollouts", rows)
    run.describe(
        args.output,
        trajectories=len(pairs),
        device=sampler.device,
        tokens_generated=sampler.engine.tokens_generated,
    )


if __name__ == "__main__":
    cli.run(main)
