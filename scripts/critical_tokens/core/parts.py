"""Parts of one table that several jobs wrote, and the checks that these parts belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from critical_tokens.core import provenance
from critical_tokens.core.records import ArtifactError, read_json

# The settings in which the parts of one table may differ:
# output: where the part lies,
# shard: which part it is,
# trajectories: the part of the earlier table that it was made from,
# batch_rows: how many rows were held in memory at a time; no row depends on it.
_OWN = ("output", "shard", "trajectories", "batch_rows")


def read_metas(parts: Sequence[Path]) -> list[dict[str, Any]]:
    """The contents of the meta files of a table's parts, in the order of the parts.

    Raises ArtifactError, naming the part, where
    - its meta file is missing or has another form,
    - the part is not the file that was written (but a copy of another part, say),
    - the part stands in the place of another part,
    - the part was made with other settings or from other inputs than the first part.
    """
    metas = [_meta(part) for part in parts]
    for number, (part, meta) in enumerate(zip(parts, metas, strict=True), 1):
        settings, inputs = _shared(meta)
        shard = meta["settings"].get("shard")
        if shard is not None and shard != [number, len(parts)]:
            raise ArtifactError(
                f"{part}: is part {_shown(shard)}, but stands where part {number}-of-{len(parts)} belongs"
            )
        first_settings, first_inputs = _shared(metas[0])
        other = [
            name
            for name in sorted(settings.keys() | first_settings.keys())
            if settings.get(name) != first_settings.get(name)
        ]
        if other:
            raise ArtifactError(
                f"{part}: was made with another {', '.join(other)} than {parts[0]}; "
                "delete the older of them and run again"
            )
        if inputs != first_inputs:
            raise ArtifactError(
                f"{part}: was made from other files than {parts[0]}; delete the older of them and run again"
            )
    return metas


def _meta(part: Path) -> dict[str, Any]:
    """The content of a part's meta file; ArtifactError where it describes another file or place."""
    path = provenance.meta_path(part)
    if not path.is_file():
        raise ArtifactError(f"{part}: has no {path.name} beside it; delete the part and run again")
    meta = read_json(path)
    known = isinstance(meta, dict) and isinstance(meta.get("settings"), dict) and isinstance(meta.get("inputs"), dict)
    if not known or not isinstance(meta.get("program"), str) or not isinstance(meta.get("checksum"), str):
        raise ArtifactError(f"{path}: is not what this version writes beside a part; delete the part and run again")
    written = Path(str(meta["settings"].get("output"))).parts[-2:]
    if meta["checksum"] != provenance.checksum(part) or written != part.absolute().parts[-2:]:
        raise ArtifactError(
            f"{part}: is not the file that {path.name} describes, but another part's; delete it and run again"
        )
    return meta


def _shared(meta: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings and inputs in which all parts of a table must agree."""
    settings = {name: value for name, value in meta["settings"].items() if name not in _OWN}
    inputs = {name: value for name, value in meta["inputs"].items() if name != meta["settings"].get("trajectories")}
    return {"program": meta["program"], **settings}, inputs


def _shown(shard: Any) -> str:
    return "-of-".join(map(str, shard)) if isinstance(shard, list) else repr(shard)
