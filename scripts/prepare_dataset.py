"""Write one split of a dataset as a table of problems: generated, from local JSON lines, or from
the hub.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.data import sources
from critical_tokens.pocket import worlds
from critical_tokens.workflow import command_line

# MATH's own splits share one question of 5,000.
MOST_SHARED = 0.01


def main() -> None:
    parser = command_line.parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--world", choices=tuple(worlds.WORLDS), help="name of a pocket world")
    source.add_argument("--path", type=Path, help="JSON-lines file, may be gzipped")
    source.add_argument("--hub", help="hub id of a dataset")
    parser.add_argument("--subset", help="configuration of the hub dataset")
    parser.add_argument("--hub-split", help="split of the hub dataset")
    parser.add_argument("--revision", help="revision of the hub dataset")
    parser.add_argument("--split", required=True, help="train, validation or test")
    parser.add_argument("--problems", type=int, help="how many (generated), or at most how many (others)")
    parser.add_argument("--rows", type=int, help="how many problems the source must have")
    parser.add_argument("--question", nargs="+", default=["question"], help="column of the question, or of its parts")
    parser.add_argument("--solution", default=None, help="column of the worked solution")
    parser.add_argument("--answer", default=None, help="column of the gold answer, if it stands apart")
    parser.add_argument(
        "--unanswered", choices=("error", "skip"), default="error", help="problems whose gold answer none can give"
    )
    parser.add_argument("--style", help="whose grader must find the gold answers right")
    parser.add_argument("--against", type=Path, help="problems of the train split, which these must not repeat")
    parser.add_argument("--seed", type=int, default=0, help="of generated problems")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("prepare_dataset", args)

    left_out: Counter[str] = Counter()
    if args.world:
        rows = sources.generated(args.world, args.split, args.problems, args.seed)
    else:
        named = {"question": args.question, "solution": args.solution, "answer": args.answer}
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
        raise records.ArtifactError(
            f"{args.path or args.hub}: {what}; a model must not be tested on what it was trained on"
        )
    for why, count in sorted(left_out.items()):
        print(f"{args.path or args.hub}: {count} problems left out, {why}")
    if shared:
        print(f"{args.output}: {shared} of {len(rows)} questions are in {args.against}, too")
    records.write_table(args.output, "problems", rows)
    run.describe(args.output, problems=len(rows), shared_with_train=shared, left_out=left_out)


if __name__ == "__main__":
    command_line.run(main)
