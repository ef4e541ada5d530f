"""Write the card of a pocket base model: its recipe, its accuracy and its checksums."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.grading import answers
from critical_tokens.reporting import estimates
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_sampling(parser)
    sampling_arguments.add_engine(parser)
    parser.add_argument(
        "--weights", type=Path, required=True, help="model.safetensors, with the model's other files beside it"
    )
    parser.add_argument("--recipe", type=Path, required=True, help="recipe.json that its pretraining wrote")
    parser.add_argument("--datasets", nargs="+", required=True, help="names of the pocket datasets")
    parser.add_argument("--styles", nargs="+", required=True, help="prompt style of each dataset")
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="train problems of each dataset, Parquet")
    parser.add_argument("--test", type=Path, nargs="+", required=True, help="test problems of each dataset, Parquet")
    parser.add_argument(
        "--sampled-problems",
        type=int,
        required=True,
        help="number of test problems that are sampled 64 times, and of train problems that are sampled 16 times",
    )
    parser.add_argument("--output", type=Path, required=True, help="the card, JSON")
    args = parser.parse_args()

    from critical_tokens.data.prompts import Prompt
    from critical_tokens.decoding import distributions
    from critical_tokens.models import checkpoints
    from critical_tokens.models.pocket_pretraining import BLANK
    from critical_tokens.rollouts.sampler import Sampler

    folder = args.weights.parent

    def counts(sampler: Sampler, problems: list, n: int, distribution: distributions.Distribution) -> list[int]:
        """The number of correct samples of n, for every problem."""
        label = f"{folder}: {n} samples"
        samples = sampler.sample(problems, n, distribution, args.max_new_tokens, args.seed, label)
        right: dict[str, int] = defaultdict(int)
        for grade in answers.grade_rows(samples, problems, sampler.prompt.style, "released"):
            right[grade["problem_id"]] += grade["correct"]
        return list(right.values())

    measured = {}
    for dataset, style, train, test in zip(args.datasets, args.styles, args.train, args.test, strict=True):
        sampler = Sampler(
            checkpoints.ModelSource(str(folder)), [], Prompt(style, blank=BLANK), sampling_arguments.engine(args)
        )
        test_problems = records.read_table(test, "problems")
        train_problems = records.read_table(train, "problems")[: args.sampled_problems]
        greedy = counts(sampler, test_problems, 1, distributions.GREEDY)
        of_64 = counts(sampler, test_problems[: args.sampled_problems], 64, sampling_arguments.distribution(args))
        of_16 = counts(sampler, train_problems, 16, sampling_arguments.distribution(args))
        measured[dataset] = {
            "test_problems": len(greedy),
            "greedy_accuracy": sum(greedy) / len(greedy),
            "greedy_interval": estimates.wilson_interval(sum(greedy), len(greedy)),
            "sampled_test_problems": len(of_64),
            "pass_at_1": sum(of_64) / (64 * len(of_64)),
            "pass_at_64": sum(c > 0 for c in of_64) / len(of_64),
            "train_problems": len(of_16),
            "mixed_of_16": sum(0 < c < 16 for c in of_16) / len(of_16),
        }
    files = {
        file.name: provenance.checksum(file)
        for file in sorted(folder.iterdir())
        if file.suffix in (".json", ".safetensors") and file != args.output
    }
    card = {
        "command": f"snakemake {args.weights}",
        "recipe": records.read_json(args.recipe),
        "measured": measured,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "checksums": files,
    }
    records.write_json(args.output, card)


if __name__ == "__main__":
    command_line.run(main)
