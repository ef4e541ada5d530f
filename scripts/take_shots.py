"""Take the worked examples of few-shot prompts from a task of lm-eval or from a split."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.data import shots
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--task", type=command_line.optional(str), choices=[*shots.TASKS, None], help="task of lm-eval with examples"
    )
    parser.add_argument(
        "--problems", type=Path, nargs="?", help="table of problems with worked solutions, instead of a task, Parquet"
    )
    parser.add_argument("--count", type=int, required=True, help="number of examples, from the first")
    parser.add_argument("--output", type=Path, required=True, help="the worked examples, JSON")
    args = parser.parse_args()
    if (args.task is None) == (args.problems is None):
        parser.error("give exactly one of --task and --problems")
    run = provenance.Run("take_shots", args)

    if args.task:
        found = shots.from_task(args.task)
    else:
        found = shots.from_problems(records.read_table(args.problems, "problems")[: args.count], args.problems)
    shots.write(args.output, found, args.count)
    run.describe(args.output, shots=args.count)


if __name__ == "__main__":
    command_line.run(main)
