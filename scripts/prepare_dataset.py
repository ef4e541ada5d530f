"""Write one split of a dataset as a table of problems.

The problems are generated, or they come from local JSON lines or from the hub.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.data import sources
from critical_tokens.pocket import worlds
from critical_tokens.workflow import command_line
from critical_tokens.workflow.command_line import optional

# The largest share of questions that may also be in the train split. It is not 0, because MATH's
# own splits share one question of 5,000.
MOST_SHARED = 0.01


def main() -> None:
    parser = command_line.parser(__doc__)
    command_line.add_about(parser)
    parser.add_argument(
        "--world", type=optional(str), choices=[*worlds.WORLDS, None], help="pocket world that generates the problems"
    )
    parser.add_argument("--path", type=optional(Path), help="JSON-lines file, which may be gzipped")
    parser.add_argument("--hub", type=optional(str), help="hub id of a dataset")
    parser.add_argument("--subset", type=optional(str), help="configuration of the hub dataset")
    parser.add_argument("--hub-split", type=optional(str), help="split of the hub dataset")
    parser.add_argument("--revision", type=optional(str), help="revision of the hub dataset")
    parser.add_argument("--split", required=True, help="name of the split: train, validation or test")
    parser.add_argument(
        "--problems", type=optional(int), help="number of generated problems; the most problems of other sources"
    )
    parser.add_argument(
        "--rows", type=optional(int), help="number of problems that the source must have (any by default)"
    )
    parser.add_argument(
        "--question",
        type=optional(str),
        nargs="+",
        default=[None],
        help="column of the question, or columns of its parts (question by default)",
    )
    parser.add_argument("--solution", type=optional(str), help="column of the worked solution")
    parser.add_argument(
        "--answer", type=optional(str), help="column of the gold answer, if it is not part of the solution"
    )
    parser.add_argument(
        "--unanswered",
        type=optional(str),
        choices=("error", "skip", None),
        help="what to do with a problem whose gold answer cannot be read (error by default)",
    )
    parser.add_argument("--style", help="style whose grader must accept the gold answers")
    parser.add_argument(
        "--against", type=Path, nargs="?", help="table of train problems that must not be among these, Parquet"
    )
    parser.add_argument("--seed", type=optional(int), help="seed of generated problems (0 by default)")
    parser.add_argument("--output", type=Path, required=True, help="table of the problems, Parquet")
    args = parser.parse_args()
    given = [args.world, args.path, args.hub]
    if given.count(None) != 2:
        parser.error("give exactly one of --world, --path and --hub")
    run = provenance.Run("prepare_dataset", args)

    left_out: Counter[str] = Counter()
    if args.world:
        rows = sources.generated(args.world, args.split, args.problems, args.seed or 0)
    else:
        named = {
            "question": ["question"] if args.question == [None] else args.question,
            "solution": args.solution,
            "answer": args.answer,
        }
        skip = args.unanswered == "skip"
        columns = {name: column for name, column in named.items() if column}
        if args.path:
            rows = sources.from_json_lines(args.path, args.split, columns, skip, args.style, left_out)
        else:
            rows = sources.from_hub(
                args.hub, args.subset, args.hub_split, args.revision, args.split, columns, skip, args.style, left_out
            )
        if args.rows not in (None, len(rows)):
            raise records.ArtifactError(f"{args.path or args.hub}: has {len(rows)} problems, must have {args.rows}")
        rows = rows[: args.problems]
    shared = sources.shared_questions(records.read_table(args.against, "problems"), rows) if args.against else 0
    if shared > MOST_SHARED * len(rows):
        what = f"{shared} of its {len(rows)} questions are in {args.against}, too"
        why = "a model must not be tested on problems that it was trained on"
        raise records.ArtifactError(f"{args.path or args.hub}: {what}; {why}")
    for why, count in sorted(left_out.items()):
        print(f"{args.path or args.hub}: {count} problems left out, {why}")
    if shared:
        print(f"{args.output}: {shared} of {len(rows)} questions are in {args.against}, too")
    records.write_table(args.output, "problems", rows, command_line.about(args))
    run.describe(args.output, problems=len(rows), shared_with_train=shared, left_out=left_out)


if __name__ == "__main__":
    command_line.run(main)
