"""Ask the hub for every model and dataset of the selection, before anything runs."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import hub, provenance, records
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="*", default=[], metavar="ID@REVISION")
    parser.add_argument("--datasets", nargs="*", default=[], metavar="ID@REVISION")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("check_hub", args)
    wanted = [hub.parse("model", text) for text in args.models] + [hub.parse("dataset", text) for text in args.datasets]
    records.write_json(args.output, hub.check(wanted))
    run.describe(args.output, repositories=len(wanted))


if __name__ == "__main__":
    command_line.run(main)
