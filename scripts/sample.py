"""Sample trajectories: n answers to each problem, as token ids and text."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import arguments, cli, provenance, records


def main() -> None:
    parser = cli.parser(__doc__)
    arguments.add_model(parser, adapters=True)
    arguments.add_sampling(parser)
    arguments.add_engine(parser)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="use the first so many problems")
    arguments.add_prompt(parser)
    parser.add_argument("--samples", type=int, required=True, help="samples per problem")
    arguments.add_shard(parser)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("sample", args)

    from critical_tokens.sampler import Sampler

    problems = arguments.shard_of(args, records.read_table(args.problems, "problems")[: args.limit])
    sampler = Sampler(arguments.model_source(args), args.adapters, arguments.prompt(args), arguments.engine(args))
    rows = sampler.sample(
        problems, args.samples, arguments.distribution(args), args.max_new_tokens, args.seed, str(args.output)
    )
    records.write_table(args.output, "trajectories", rows)
    run.describe(args.output, device=sampler.engine.device, tokens_generated=sampler.engine.tokens_generated)


if __name__ == "__main__":
    cli.run(main)
