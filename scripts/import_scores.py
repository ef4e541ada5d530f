"""The authors' contrastive scores of the rejected answers instead of our own."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import arguments, cli, provenance, records, released


def main() -> None:
    parser = cli.parser(__doc__)
    arguments.add_model(parser)
    parser.add_argument("--folder", type=Path, required=True, help="the authors' files")
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="the imported pairs")
    arguments.add_prompt(parser)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("import_scores", args)

    from critical_tokens import checkpoints

    path = released.files(args.folder, args.style).get("scores")
    if path is None:
        raise records.ArtifactError(f"{args.folder}: has no file {released.PATTERNS['scores']}")
    problems = released.Problems(records.read_table(args.problems, "problems"), args.style, arguments.prompt(args))
    pairs = records.read_table(args.pairs, "pairs")
    rows = released.scores(path, pairs, problems, checkpoints.load_tokenizer(arguments.model_source(args)))
    records.write_table(args.output, "contrast", rows)
    run.describe(args.output, answers=len(rows), released={"scores": provenance.checksum(path)}, left_out=problems.left_out)
    if problems.left_out:
        print(f"{path}: {problems.left_out[path.name]} rows left out, without a train problem")


if __name__ == "__main__":
    cli.run(main)
