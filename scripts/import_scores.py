"""Import the authors' contrastive scores of rejected answers, to use them instead of our own."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.data import authors_files
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    parser.add_argument("--folder", type=Path, required=True, help="folder with the authors' files")
    command_line.add_tables(parser, "problems", "pairs")
    sampling_arguments.add_prompt(parser)
    parser.add_argument("--output", type=Path, required=True, help="table of the contrastive scores, Parquet")
    args = parser.parse_args()
    run = provenance.Run("import_scores", args)

    from critical_tokens.models import checkpoints

    path = authors_files.files(args.folder, args.style).get("scores")
    if path is None:
        raise records.ArtifactError(f"{args.folder}: has no file {authors_files.PATTERNS['scores']}")
    problems = authors_files.Problems(
        records.read_table(args.problems, "problems"), args.style, sampling_arguments.prompt(args)
    )
    pairs = records.read_table(args.pairs, "pairs")
    rows = authors_files.scores(
        path, pairs, problems, checkpoints.load_tokenizer(sampling_arguments.model_source(args), problems.prompt)
    )
    records.write_table(args.output, "contrast", rows, records.read_about(args.pairs))
    run.describe(
        args.output, answers=len(rows), released={"scores": provenance.checksum(path)}, left_out=problems.left_out
    )
    if problems.left_out:
        print(f"{path}: {problems.left_out[path.name]} rows left out, because they have no train problem")


if __name__ == "__main__":
    command_line.run(main)
