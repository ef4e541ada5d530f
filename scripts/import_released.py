"""The authors' answers and pairs instead of sampled ones."""

from __future__ import annotations

from pathlib import Path

from critical_tokens import arguments, cli, provenance, records, released


def main() -> None:
    parser = cli.parser(__doc__)
    arguments.add_model(parser)
    parser.add_argument("--folder", type=Path, required=True, help="the authors' files")
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--style", required=True, help="of their prompts")
    parser.add_argument("--positive", type=Path, required=True)
    parser.add_argument("--negative", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("import_released", args)

    from critical_tokens import checkpoints

    files = released.files(args.folder)
    tokenizer = checkpoints.load_tokenizer(arguments.model_source(args))
    problems = released.Problems(records.read_table(args.problems, "problems"), args.style)
    tables = [
        (args.positive, "answers", released.answers(files["answers"], "pos", problems, tokenizer)),
        (args.negative, "answers", released.answers(files["answers"], "neg", problems, tokenizer)),
        (args.pairs, "pairs", released.pairs(files["pairs"], problems, tokenizer)),
    ]
    sources = {kind: provenance.checksum(path) for kind, path in files.items()}
    for path, kind, rows in tables:
        records.write_table(path, kind, rows)
        run.describe(path, rows=len(rows), released=sources)


if __name__ == "__main__":
    cli.run(main)
