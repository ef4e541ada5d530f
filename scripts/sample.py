"""Sample trajectories: several answers to each problem, as token ids and text."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    command_line.add_about(parser)
    sampling_arguments.add_sampler(parser, adapters=True)
    command_line.add_tables(parser, "problems")
    parser.add_argument(
        "--limit", type=command_line.optional(int), help="number of problems, from the first (all by default)"
    )
    parser.add_argument("--samples", type=int, required=True, help="number of answers per problem")
    sampling_arguments.add_shard(parser)
    parser.add_argument("--output", type=Path, required=True, help="table of the answers, Parquet")
    args = parser.parse_args()
    run = provenance.Run("sample", args)

    problems = sampling_arguments.shard_of(args, records.read_table(args.problems, "problems")[: args.limit])
    sampler = sampling_arguments.sampler(args, run, args.adapters)
    rows = sampler.sample(
        problems, args.samples, sampling_arguments.distribution(args), args.max_new_tokens, args.seed, str(args.output)
    )
    records.write_table(args.output, "trajectories", rows, command_line.about(args))
    run.describe(args.output, device=sampler.engine.device, tokens_generated=sampler.engine.tokens_generated)
    sampler.finish()


if __name__ == "__main__":
    command_line.run(main)
