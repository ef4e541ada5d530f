"""Compare critical tokens with first wrong tokens, and say which tokens they are.

The table has the numbers of v3's Tables 1 and 2, by kind of error and kind of word. The JSON file
says where in the answers critical tokens are, which are the most frequent, and has examples.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import records
from critical_tokens.models import checkpoints
from critical_tokens.rollouts import words
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    command_line.add_tables(parser, "problems", "pairs", "critical", "rollouts")
    parser.add_argument("--output", type=Path, required=True, help="a row per kind of error, CSV")
    parser.add_argument("--words", type=Path, required=True, help="places, most frequent tokens and examples, JSON")
    args = parser.parse_args()

    import pandas as pd

    from critical_tokens.reporting import agreement

    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    rejected = records.read_by_problem(args.pairs, "pairs", "rejected")
    critical = records.read_table(args.critical, "critical")
    kinds = words.critical_kinds(critical, rejected, tokenizer)
    cell = records.read_about(args.pairs, ("model", "dataset"))
    rows = [
        {"model": cell["model"], "dataset": cell["dataset"], **row} for row in agreement.kinds_rows(critical, kinds)
    ]
    scores = {(r["problem_id"], r["position"]): r["score"] for r in records.read_table(args.rollouts, "rollouts")}
    problems = records.read_table(args.problems, "problems")
    found = words.critical_words(critical, rejected, scores, problems, tokenizer)
    records.write_csv(args.output, pd.DataFrame(rows))
    records.write_json(args.words, {**cell, **found})


if __name__ == "__main__":
    command_line.run(main)
