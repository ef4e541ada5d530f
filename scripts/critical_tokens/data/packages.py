"""A cell in one file, to publish or to start from: its problems, tables and adapters, with their
checksums.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from critical_tokens.core.records import Failure, naming, replacing

MANIFEST = "manifest.json"
# Paths below the results folder; nothing of a package is written anywhere else.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}(/[A-Za-z0-9][\w.-]{0,99}){1,7}\.(parquet|json|csv|safetensors)", re.ASCII)


class PackageError(Failure):
    """A file that is no package, or is not what its manifest says."""


def pack(results: Path, files: Sequence[Path], package: Path, facts: dict[str, Any]) -> int:
    """Write files below `results`, and the meta files beside them, as a tar file; returns how many.

    The same files give the same bytes. The manifest, its first member, holds `facts` and every
    file's size and SHA-256.
    """
    for path in files:
        if not (path.is_relative_to(results) and path.is_file()):
            raise PackageError(f"{path}: is no file below {results}")
    wanted = set(files) | {meta for path in files if (meta := path.with_name(f"{path.stem}.meta.json")).is_file()}
    names = sorted(path.relative_to(results).as_posix() for path in wanted)
    listed = {}
    for name in names:
        if not _NAME.fullmatch(name):
            raise PackageError(f"{results / name}: is no file for a package")
        path = results / name
        with path.open("rb") as file:
            listed[name] = {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    manifest = json.dumps({**facts, "files": listed}, indent=2, sort_keys=True).encode()
    with replacing(package) as temporary, tarfile.open(temporary, "w") as tar:
        tar.addfile(_member(MANIFEST, len(manifest)), io.BytesIO(manifest))
        for name in names:
            with (results / name).open("rb") as file:
                tar.addfile(_member(name, listed[name]["size"]), file)
    return len(names)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def unpack(package: Path, results: Path, replace: bool = False) -> dict[str, Any]:
    """Put a package's files where they belong, all of them or none; returns its manifest.

    Raises PackageError for a file that is no package, whose checksum is wrong, that would lie
    outside `results`, or that is there already with other bytes (unless `replace`).
    """
    if not package.is_file():
        raise PackageError(f"{package}: is no file")
    folder = results / f".{package.name}.unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with tarfile.open(package, "r:") as tar:
            manifest = _manifest(tar, package)
            listed = manifest["files"]
            for member in tar:
                if member.name == MANIFEST:
                    continue
                # A sparse member is longer than the package, to no end.
                plain = member.isfile() and not member.issparse()
                if member.name not in listed or not plain or not _NAME.fullmatch(member.name):
                    raise PackageError(f"{package}: {member.name[:200]!r} does not belong into a package")
                if (folder / member.name).exists():
                    raise PackageError(f"{package}: has {member.name} twice")
                _extract(tar, member, folder / member.name, listed[member.name], package)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # A chain of headers without a file behind them is recursion in the library.
        if isinstance(error, (tarfile.TarError, EOFError, UnicodeError, RecursionError)):
            raise PackageError(f"{package}: is no complete tar file ({error})") from error
        raise
    try:
        _check_places(folder, results, listed, package, replace)
    except PackageError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # One time for all: no file is newer than another, so nothing seems to need a rerun.
    now = time.time()
    for name in listed:
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(results / name)
        os.utime(results / name, (now, now))
    shutil.rmtree(folder)
    return manifest


def _manifest(tar: tarfile.TarFile, package: Path) -> dict[str, Any]:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isfile() or first.size > 50_000_000:
        raise PackageError(f"{package}: does not begin with a manifest")
    try:
        manifest = json.loads(tar.extractfile(first).read())
        files = {str(name): {"sha256": str(facts["sha256"])} for name, facts in manifest["files"].items()}
        found = {"model": str(manifest["model"]), "dataset": str(manifest["dataset"]), "files": files}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackageError(f"{package}: its manifest cannot be read ({error})") from error
    _check_names(list(files), package)
    return found


def _check_names(names: Sequence[str], package: Path) -> None:
    """Raise PackageError for names that some file system takes for one another, or a file that is a
    folder, too.
    """
    folders = {parent.as_posix().lower() for name in names for parent in Path(name).parents}
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name or name.lower() in folders:
            raise PackageError(f"{package}: {name[:200]!r} collides with {other[:200]!r} or a folder of its name")


def _check_places(folder: Path, results: Path, listed: dict[str, Any], package: Path, replace: bool) -> None:
    """Raise PackageError where a listed file did not come, or would lie where something else is."""
    for name in listed:
        if not (folder / name).is_file():
            raise PackageError(f"{package}: {name} is missing")
    for name in listed:
        if _differs(results / name, listed[name]["sha256"]) and not replace:
            raise PackageError(f"{results / name}: is there already and differs; --replace overwrites it")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, stated: dict[str, Any], package: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with naming(path), path.open("wb") as out:
        source = tar.extractfile(member)
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != stated["sha256"]:
        raise PackageError(f"{package}: {member.name} does not have the checksum of its manifest")


def _differs(path: Path, checksum: str) -> bool:
    if not path.exists():
        return False
    if not path.is_file():
        raise PackageError(f"{path}: is no file, but the package has one of that name")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() != checksum
