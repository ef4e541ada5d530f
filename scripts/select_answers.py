"""Select the positive set, the negative set and the preference pairs from graded trajectories."""

from __future__ import annotations

import random
from itertools import groupby
from pathlib import Path

from critical_tokens import cli, provenance, records, selection


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--trajectories", type=Path, required=True)
    parser.add_argument("--grades", type=Path, required=True)
    parser.add_argument("--coverage", type=float, required=True, help="share of wrong samples the negative set covers")
    parser.add_argument("--repeated-only", choices=("true", "false"), required=True, help="no answers seen once")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--positive", type=Path, required=True)
    parser.add_argument("--negative", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("select_answers", args)

    samples = {(r["problem_id"], r["sample_id"]): r for r in records.read_table(args.trajectories, "trajectories")}
    grades = records.read_table(args.grades, "grades")

    def answer(problem: str, sample: int) -> dict:
        row = samples[problem, sample]
        return {key: row[key] for key in ("problem_id", "sample_id", "token_ids", "finished")}

    positive, negative, pairs = [], [], []
    repeated = args.repeated_only == "true"
    for problem, rows in groupby(grades, key=lambda r: r["problem_id"]):
        candidates = [selection.Sample(r["sample_id"], r["answer"], r["correct"]) for r in rows]
        chosen = selection.select(candidates, random.Random(f"{args.seed}/{problem}"), args.coverage, repeated)
        positive += [answer(problem, i) for i in chosen.positive]
        negative += [answer(problem, i) for i in chosen.negative]
        if chosen.pair:
            right, wrong = (samples[problem, i] for i in chosen.pair)
            pairs.append({
                "problem_id": problem,
                "chosen_id": right["sample_id"],
                "rejected_id": wrong["sample_id"],
                "chosen": right["token_ids"],
                "rejected": wrong["token_ids"],
                "chosen_finished": right["finished"],
                "rejected_finished": wrong["finished"],
            })  # fmt: skip
    for path, kind, rows in (
        (args.positive, "answers", positive),
        (args.negative, "answers", negative),
        (args.pairs, "pairs", pairs),
    ):
        records.write_table(path, kind, rows)
        run.describe(path, rows=len(rows))


if __name__ == "__main__":
    cli.run(main)
