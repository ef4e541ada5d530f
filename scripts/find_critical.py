"""Find the critical token of each rejected answer from its rollout scores.

Where the first wrong token is known, from annotations or from the step checker, it is written
beside it.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import batches, provenance, records
from critical_tokens.data import annotations
from critical_tokens.models import checkpoints
from critical_tokens.rollouts import critical
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    command_line.add_tables(parser, "problems", "pairs", "rollouts")
    parser.add_argument(
        "--annotations", type=Path, nargs="?", help="first errors found by people, CSV (none by default)"
    )
    parser.add_argument(
        "--later-below", type=float, required=True, help="every score after a critical token is below this"
    )
    parser.add_argument("--zero-up-to", type=float, required=True, help="scores up to this count as 0")
    parser.add_argument("--output", type=Path, required=True, help="table of critical tokens, Parquet")
    args = parser.parse_args()
    run = provenance.Run("find_critical", args)

    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    problems = records.read_by_problem(args.problems, "problems")
    pairs = records.read_by_problem(args.pairs, "pairs")
    annotated = annotations.read(args.annotations) if args.annotations else {}
    rows = []
    for problem_id, scored in batches.read_problems(args.rollouts, "rollouts"):
        pair = pairs[problem_id]
        truth = critical.known_first_wrong(pair, problems[problem_id], annotated, tokenizer)
        rows.append(critical.critical_row(scored.to_pylist(), pair, truth, args.later_below, args.zero_up_to))
    records.write_table(args.output, "critical", rows, records.read_about(args.rollouts))
    run.describe(args.output, **critical.critical_counts(rows))


if __name__ == "__main__":
    command_line.run(main)
