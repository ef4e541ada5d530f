"""Import the authors' answers and pairs, to use them instead of sampled ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.data import authors_files, prompts
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    command_line.add_about(parser)
    sampling_arguments.add_model(parser)
    parser.add_argument("--folder", type=Path, required=True, help="folder with the authors' files")
    command_line.add_tables(parser, "problems")
    sampling_arguments.add_prompt(parser)
    parser.add_argument(
        "--answers-template",
        choices=prompts.FORMS,
        default="usual",
        help="template of the positive and the negative set, where --template is that of the pairs (usual by default)",
    )
    parser.add_argument("--positive", type=Path, required=True, help="table of the positive set to write, Parquet")
    parser.add_argument("--negative", type=Path, required=True, help="table of the negative set to write, Parquet")
    parser.add_argument("--pairs", type=Path, required=True, help="table of the pairs to write, Parquet")
    args = parser.parse_args()
    run = provenance.Run("import_released", args)

    from critical_tokens.models import checkpoints

    files = authors_files.files(args.folder, args.style)
    tokenizer = checkpoints.load_tokenizer(sampling_arguments.model_source(args))
    known = records.read_table(args.problems, "problems")
    prompt = sampling_arguments.prompt(args)
    problems = authors_files.Problems(known, args.style, replace(prompt, template=args.answers_template, shots=()))
    paired = authors_files.Problems(known, args.style, prompt)
    tables = [
        (args.positive, "answers", authors_files.answers(files["answers"], "pos", problems, tokenizer)),
        (args.negative, "answers", authors_files.answers(files["answers"], "neg", problems, tokenizer)),
        (args.pairs, "pairs", authors_files.pairs(files["pairs"], paired, tokenizer)),
    ]
    sources = {kind: provenance.checksum(path) for kind, path in files.items()}
    for path, kind, rows in tables:
        records.write_table(path, kind, rows, command_line.about(args))
        run.describe(path, rows=len(rows), released=sources, left_out=problems.left_out + paired.left_out)
    for name, count in sorted((problems.left_out + paired.left_out).items()):
        what = "rows left out, because they have no train problem or are not the first of their problem"
        print(f"{args.folder / name}: {count} {what}")


if __name__ == "__main__":
    command_line.run(main)
