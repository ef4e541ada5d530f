"""Download a model or a dataset of the hub at its revision, and write down the checksums of its
files.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import hub, provenance, records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--kind", choices=("model", "dataset"), required=True)
    parser.add_argument("--repository", required=True, metavar="ID@REVISION")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("fetch", args)
    manifest = hub.fetch(hub.parse(args.kind, args.repository))
    records.write_json(args.output, manifest)
    run.describe(args.output, bytes=sum(file["size"] for file in manifest["files"].values()))


if __name__ == "__main__":
    command_line.run(main)
