"""Unpack a package: check its files, and put them where the workflow continues from them."""

from __future__ import annotations

from pathlib import Path

from critical_tokens.data import packages
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("package", type=Path, help="the package, a tar file")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of the workflow's results (results by default)"
    )
    parser.add_argument("--replace", action="store_true", help="overwrite existing files that differ")
    args = parser.parse_args()
    if not args.package.is_file():
        raise packages.PackageError(f"{args.package}: does not exist")
    manifest = packages.unpack(args.package, args.results, args.replace)
    print(f"{len(manifest['files'])} files of {manifest['model']} on {manifest['dataset']} are in {args.results}")


if __name__ == "__main__":
    command_line.run(main)
