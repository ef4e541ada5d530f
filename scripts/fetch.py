"""Download a model or a dataset from the hub, and record the checksums of its files."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import hub, provenance, records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--kind", choices=("model", "tokenizer", "dataset"), required=True, help="kind of the repository"
    )
    parser.add_argument("--repository", required=True, metavar="ID@REVISION", help="hub id and revision")
    parser.add_argument(
        "--output", type=Path, required=True, help="files of the repository with their sizes and checksums, JSON"
    )
    args = parser.parse_args()
    run = provenance.Run("fetch", args)
    manifest = hub.fetch(hub.parse(args.kind, args.repository))
    records.write_json(args.output, manifest)
    run.describe(args.output, bytes=sum(file["size"] for file in manifest["files"].values()))


if __name__ == "__main__":
    command_line.run(main)
