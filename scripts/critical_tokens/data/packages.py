"""Packages: the problems, tables and adapters of a cell (a model and a dataset) in one tar file.

A package is made to publish results, or to continue from them on another machine. Its manifest
lists the checksums of all files.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from critical_tokens.core.provenance import sha256
from critical_tokens.core.records import Failure, naming, replacing

MANIFEST = "manifest.json"
# The allowed paths of files, relative to the results folder. They cannot lead out of it.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}(/[A-Za-z0-9][\w.-]{0,99}){1,7}\.(parquet|json|csv|safetensors)", re.ASCII)


class PackageError(Failure):
    """A file is not a package, or differs from its manifest."""


def pack(results: Path, files: Sequence[Path], package: Path, facts: dict[str, Any]) -> int:
    """Write files below `results`, and their meta files, as a package; returns their number.

    The same files give the same bytes. The first member of the tar file is the manifest, which
    holds `facts` and the size (bytes) and SHA-256 of every file.
    Raises PackageError for a file outside `results` or with a name that packages do not allow.
    """
    for path in files:
        if not (path.is_relative_to(results) and path.is_file()):
            raise PackageError(f"{path}: is no file below {results}")
    wanted = set(files) | {meta for path in files if (meta := path.with_name(f"{path.stem}.meta.json")).is_file()}
    names = sorted(path.relative_to(results).as_posix() for path in wanted)
    listed: dict[str, dict[str, Any]] = {}
    for name in names:
        if not _NAME.fullmatch(name):
            raise PackageError(f"{results / name}: is no file that a package may hold")
        listed[name] = {"size": (results / name).stat().st_size, "sha256": sha256(results / name)}
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
    """Put all files of a package into the folder `results`; returns the manifest.

    Raises PackageError, and puts no file there, where
    - the package is not a complete tar file with a manifest,
    - a file is not in the manifest, is missing, or has another checksum,
    - a file would lie outside `results`,
    - a file exists already with other bytes, unless `replace` is set.
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
                # A sparse member may be far longer than the package that holds it.
                plain = member.isfile() and not member.issparse()
                if member.name not in listed or not plain or not _NAME.fullmatch(member.name):
                    raise PackageError(f"{package}: {member.name[:200]!r} does not belong in a package")
                if (folder / member.name).exists():
                    raise PackageError(f"{package}: has {member.name} twice")
                _extract(tar, member, folder / member.name, listed[member.name], package)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # For every header without a file behind it, tarfile calls itself once more. A hostile
        # package with a long chain of such headers ends in a RecursionError.
        if isinstance(error, (tarfile.TarError, EOFError, UnicodeError, RecursionError)):
            raise PackageError(f"{package}: is no complete tar file ({error})") from error
        raise
    try:
        _check_places(folder, results, listed, package, replace)
    except PackageError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # All files get the same modification time. Otherwise Snakemake would rerun the jobs whose
    # outputs seem older than their inputs.
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
        manifest = json.loads(_content(tar, first).read())
        files = {str(name): {"sha256": str(facts["sha256"])} for name, facts in manifest["files"].items()}
        found = {"model": str(manifest["model"]), "dataset": str(manifest["dataset"]), "files": files}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackageError(f"{package}: its manifest cannot be read ({error})") from error
    _check_names(list(files), package)
    return found


def _check_names(names: Sequence[str], package: Path) -> None:
    """Raise PackageError for names that collide on some file system.

    Names collide where they differ only in case, or where one names a folder of the other.
    """
    folders = {parent.as_posix().lower() for name in names for parent in Path(name).parents}
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name or name.lower() in folders:
            raise PackageError(f"{package}: {name[:200]!r} collides with {other[:200]!r} or a folder of its name")


def _check_places(folder: Path, results: Path, listed: dict[str, Any], package: Path, replace: bool) -> None:
    """Raise PackageError where a listed file is missing, or would overwrite a different file."""
    for name in listed:
        if not (folder / name).is_file():
            raise PackageError(f"{package}: {name} is missing")
    for name in listed:
        if _differs(results / name, listed[name]["sha256"]) and not replace:
            raise PackageError(f"{results / name}: is there already and differs; --replace overwrites it")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """The content of a plain file in a tar file."""
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ExtractError(f"{member.name} is no plain file")
    return content


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, stated: dict[str, Any], package: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("wb") as out:
        shutil.copyfileobj(_content(tar, member), out)
    if sha256(path) != stated["sha256"]:
        raise PackageError(f"{package}: {member.name} does not have the checksum of its manifest")


def _differs(path: Path, checksum: str) -> bool:
    if not path.exists():
        return False
    if not path.is_file():
        raise PackageError(f"{path}: is no file, but the package has one of that name")
    return sha256(path) != checksum
