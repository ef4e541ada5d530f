"""Find the critical token of each trajectory from its rollout scores, and its first wrong token
where the truth is known.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import batches, provenance, records
from critical_tokens.data import annotations, prompts
from critical_tokens.models import checkpoints
from critical_tokens.pocket import language, worlds
from critical_tokens.rollouts import critical
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--rollouts", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, nargs="?", help="first errors that people found, CSV")
    parser.add_argument("--later-below", type=float, required=True, help="later scores stay below this share")
    parser.add_argument("--zero-up-to", type=float, required=True, help="scores up to this count as 0")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("find_critical", args)

    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    problems = records.read_by_problem(args.problems, "problems")
    pairs = records.read_by_problem(args.pairs, "pairs")
    annotated = annotations.read(args.annotations) if args.annotations else {}
    rows = []
    for problem_id, table in batches.read_problems(args.rollouts, "rollouts"):
        scored = [r for r in table.to_pylist() if r["position"] >= 0]
        pair, problem = pairs[problem_id], problems[problem_id]
        found = critical.find_critical([r["score"] for r in scored], args.later_below, args.zero_up_to)
        position = scored[found.position]["position"] if found else None
        truth = None
        ids = pair["rejected"]
        text = prompts.decode(tokenizer, ids)
        if (annotation := annotations.of_answer(annotated, problem_id, text)) is not None:
            truth = (critical.token_at(annotation.offset, prompts.token_ends(tokenizer, ids)), annotation.error_kind)
        elif problem["language"]:
            truth = critical.first_wrong_token(
                text,
                prompts.token_ends(tokenizer, ids),
                pair["rejected_finished"],
                language.language_from_json(problem["language"]),
                worlds.sentence_shapes(problem["world"]),
            )
        rows.append({
            "problem_id": problem_id,
            "sample_id": pair["rejected_id"],
            "position": position,
            "token_id": None if position is None else pair["rejected"][position],
            "length": len(pair["rejected"]),
            "zero_only": found.zero_only if found else None,
            "first_wrong": truth[0] if truth else None,
            "error_kind": truth[1] if truth else None,
        })  # fmt: skip
    records.write_table(args.output, "critical", rows, records.read_about(args.rollouts))
    known = [r for r in rows if r["position"] is not None and r["first_wrong"] is not None]
    run.describe(
        args.output,
        trajectories=len(rows),
        found=sum(r["position"] is not None for r in rows),
        zero_only=sum(bool(r["zero_only"]) for r in rows),
        at_or_before_first_wrong=sum(r["position"] <= r["first_wrong"] for r in known),
        with_known_first_wrong=len(known),
    )


if __name__ == "__main__":
    command_line.run(main)
