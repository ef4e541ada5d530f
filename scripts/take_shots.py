"""Take the worked examples of few-shot prompts from lm-eval's task definitions, or from a split of
the dataset.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.data import shots
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--task", type=command_line.optional(str), choices=[*shots.TASKS, None], help="of lm-eval")
    parser.add_argument(
        "--problems", type=Path, nargs="?", help="instead of a task: problems with worked solutions, Parquet"
    )
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if (args.task is None) == (args.problems is None):
        parser.error("give one of --task and --problems")
    run = provenance.Run("take_shots", args)

    if args.task:
        found = shots.from_task(args.task)
    else:
        found = shots.from_problems(records.read_table(args.problems, "problems")[: args.count], args.problems)
    shots.write(args.output, found, args.count)
    run.describe(args.output, shots=args.count)


if __name__ == "__main__":
    command_line.run(main)
