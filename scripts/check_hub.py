"""Check that the hub has every selected model and dataset, before any job runs."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import hub, provenance, records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="*", default=[], metavar="ID@REVISION", help="models on the hub")
    parser.add_argument("--tokenizers", nargs="*", default=[], metavar="ID@REVISION", help="tokenizers on the hub")
    parser.add_argument("--datasets", nargs="*", default=[], metavar="ID@REVISION", help="datasets on the hub")
    parser.add_argument("--output", type=Path, required=True, help="what the hub has, JSON")
    args = parser.parse_args()
    run = provenance.Run("check_hub", args)
    named = {"model": args.models, "tokenizer": args.tokenizers, "dataset": args.datasets}
    wanted = [hub.parse(kind, text) for kind, texts in named.items() for text in texts]
    records.write_json(args.output, hub.check(wanted))
    run.describe(args.output, repositories=len(wanted))


if __name__ == "__main__":
    command_line.run(main)
