"""Reading of users' JSON lines, gzipped or not, with limits on the size of what is read.

A file is UTF-8, whatever the locale is, and may begin with a byte order mark. Its lines end with
LF, CRLF or CR, and with nothing else: a line separator (U+2028) may be part of a text.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from critical_tokens.core.records import ArtifactError

# The largest size of an unpacked file: _MOST_UNFOLDED times its packed size, plus _ALWAYS bytes.
# Text compresses five- to tenfold, a gzip bomb a thousandfold.
_MOST_UNFOLDED, _ALWAYS = 100, 1 << 24
# The longest line (bytes), and the largest number of lines.
_LONGEST_LINE, _MOST_LINES = 1 << 24, 5_000_000
_READ = "problems come from JSON lines in UTF-8 (.jsonl, one object a line), which may be gzipped"
_SUFFIXES = {".csv": "CSV", ".tsv": "a table with tabs", ".arrow": "an Arrow file"}
_BEGINNINGS = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number (from 0 on) and the JSON object of each line that is not empty.

    Raises ArtifactError, naming the file and, if it is known, the row, where
    - the file is missing, in another format, cut short or damaged,
    - the unpacked file, or a line of it, is too large,
    - a line is no JSON object.
    """
    if path.is_dir():
        raise ArtifactError(f"{path}: is a folder; {_READ}")
    if not path.is_file():
        raise ArtifactError(f"{path}: does not exist")
    for number, line in _lines(path):
        yield number, _parsed(line, f"{path}, row {number + 1}", number == 0)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    most = _ALWAYS + _MOST_UNFOLDED * path.stat().st_size
    read, number = 0, 0
    try:
        with _opened(path) as file:
            while chunk := file.readline(_LONGEST_LINE + 1):
                read += len(chunk)
                if len(chunk) > _LONGEST_LINE or read > most or number > _MOST_LINES:
                    raise ArtifactError(
                        f"{path}, row {number + 1}: is too long, or the file unpacks to more than text does"
                    )
                for line in chunk.splitlines():  # also splits at CR; bytes have no other line ends
                    if number == 0:
                        line = line.removeprefix(_BYTE_ORDER_MARK)
                    if line.strip():
                        yield number, line
                    number += 1
    except (OSError, EOFError, zlib.error) as error:
        raise ArtifactError(f"{path}: cannot be read to its end ({error})") from error


def _opened(path: Path) -> BufferedIOBase:
    """The opened file, unpacked if it is gzipped.

    Raises ArtifactError where the name or the first bytes show that the file has another format.
    """
    with path.open("rb") as file:
        start = file.read(8)
    what = _SUFFIXES.get(path.suffix.lower()) or next((w for b, w in _BEGINNINGS.items() if start.startswith(b)), None)
    if what:
        raise ArtifactError(f"{path}: is {what}, which is not read; {_READ}")
    return gzip.open(path, "rb") if start.startswith(_GZIP) else path.open("rb")


def _parsed(line: bytes, where: str, first: bool) -> dict[str, Any]:
    if first and line.lstrip()[:1] == b"[":
        raise ArtifactError(
            f"{where}: is a JSON array; one object a line is read, which `jq -c '.[]' FILE` makes of an array"
        )
    try:
        found = json.loads(line.decode("utf-8"), object_pairs_hook=_without_twins)
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{where}: is not UTF-8 ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where}: is not JSON ({error}); {_READ}") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{where}: is no JSON object with columns")
    return found


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object from its keys and values; ValueError where it has a key twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found
