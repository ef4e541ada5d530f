"""Models and datasets of the hub, at pinned revisions: asked for before anything runs, fetched
once, checked byte by byte.

Everything behind the fetch reads the local snapshot and needs no network. `HF_ENDPOINT` names a
mirror, `HF_HOME` where snapshots lie, `HF_TOKEN` (or `hf auth login`) who asks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from critical_tokens.core.records import Failure, read_json

# What a model needs to run here: no pickled weights, no code.
_MODEL_FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.tiktoken", "merges.txt")
# The same weights once more: in the format of their makers, in the folders of other runtimes, or as
# somebody's adapter.
_TWICE = ("consolidated*.safetensors", "*/*.safetensors")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DATASET_FILES = ("*.parquet", "*.json", "*.jsonl", "*.jsonl.gz", "README.md")


class HubError(Failure):
    """A repository that cannot be had, and what to do about it."""


@dataclass(frozen=True)
class Repository:
    """A repository of the hub: kind is model or dataset."""

    kind: str
    id: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.kind} {self.id} at {self.revision or 'main'}"


def parse(kind: str, text: str) -> Repository:
    """The repository that "owner/name@revision" names; without a revision its newest."""
    name, _, revision = text.partition("@")
    return Repository(kind, name, revision or None)


def check(repositories: Sequence[Repository]) -> list[dict[str, Any]]:
    """Ask the hub for every repository; what it said, a row each. Raises HubError with the remedies
    of all that failed.
    """
    rows, failures = [], []
    for repository in repositories:
        try:
            rows.append(_facts(repository))
        except HubError as error:
            failures.append(str(error))
    if failures:
        raise HubError("\n".join(failures))
    return rows


def fetch(repository: Repository) -> dict[str, Any]:
    """Download the files of a repository, or what is still missing of them; their sizes and
    checksums.

    Raises HubError where a file does not have the checksum that the hub states for it.
    """
    facts = _facts(repository)
    stated = {f["name"]: f for f in facts.pop("files")}
    if stated:
        _download(repository, list(stated))
    folder = snapshot(repository)
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        checksum = _sha256(path)
        wanted = stated.get(name, {})
        if wanted.get("sha256") not in (None, checksum) or wanted.get("size") not in (None, path.stat().st_size):
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise HubError(f"{repository}: {name} is damaged and was removed from {folder}; run the same command again")
        files[name] = {"size": path.stat().st_size, "sha256": checksum}
    return facts | {"files": files}


def _download(repository: Repository, names: Sequence[str]) -> None:
    """Fetch what is needed of the files of a repository, each by its own address.

    The client's `snapshot_download` asks for a list of its own, which proxies of companies do not
    pass on.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import filter_repo_objects

    what = _what(repository)
    needed = set(
        filter_repo_objects(
            names, allow_patterns=what.pop("allow_patterns"), ignore_patterns=what.pop("ignore_patterns")
        )
    )

    def download(name: str) -> Path:
        return Path(hf_hub_download(**what, filename=name))

    with _explained(repository), ThreadPoolExecutor(8) as pool:
        if repository.kind == "model":
            weights = _weights(repository, names, download)
            needed = {name for name in needed if not name.endswith(".safetensors")} | weights
        list(pool.map(download, sorted(needed)))


def _weights(repository: Repository, names: Collection[str], path_of: Callable[[str], Path]) -> set[str]:
    """The files of weights that transformers loads: one, or else the parts that the index names.

    Raises HubError where there are none, and where the index names one that is not there.
    """
    if _WEIGHTS in names:
        return {_WEIGHTS}
    if _INDEX not in names:
        raise _no_weights(repository)
    index = read_json(path_of(_INDEX))
    parts = index.get("weight_map") if isinstance(index, dict) else None
    found = {str(part) for part in parts.values()} if isinstance(parts, dict) else set()
    if not found or not found <= set(names):
        lacks = f"{min(found - set(names))}, which is not there" if found else "no weights"
        raise HubError(f"{repository}: {_INDEX} names {lacks}; fetch the model again, or ask its makers")
    return found


def _no_weights(repository: Repository) -> HubError:
    what = f"has no safetensors weights ({_WEIGHTS}, or parts with an index)"
    return HubError(f"{repository}: {what}; other weights are not loaded, because they may run code")


def snapshot(repository: Repository) -> Path:
    """The folder of a fetched repository; no network is asked. Raises HubError where it was not
    fetched, or not whole.
    """
    from huggingface_hub import snapshot_download

    what = _what(repository)
    if repository.kind == "model":
        # Of weights that lie there twice only one set is needed, which no pattern says.
        what["ignore_patterns"] = ["*.safetensors"]
    try:
        found = Path(snapshot_download(**what, local_files_only=True))
    except (OSError, ValueError) as error:
        lacks = "is no local folder and is not in the cache (HF_HOME); `snakemake fetched` downloads what the selection needs"
        raise HubError(f"{repository} {lacks}") from error
    if repository.kind == "model":
        names = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}
        try:
            _weights(repository, names, lambda name: found / name)
        except HubError as error:
            raise HubError(f"{error}; if {found} was fetched in part, fetch it again with the hub at hand") from error
    return found


def _what(repository: Repository) -> dict[str, Any]:
    """What is fetched of a repository, and looked for in the cache."""
    patterns = _MODEL_FILES if repository.kind == "model" else _DATASET_FILES
    identity = {"repo_id": repository.id, "repo_type": repository.kind, "revision": repository.revision}
    twice = _TWICE if repository.kind == "model" else ()
    return {**identity, "allow_patterns": list(patterns), "ignore_patterns": list(twice)}


def _facts(repository: Repository) -> dict[str, Any]:
    from huggingface_hub import HfApi, constants

    if constants.is_offline_mode():
        # The hub is switched off (HF_HUB_OFFLINE): what lies in the cache is all that is known.
        return {**asdict(repository), "commit": snapshot(repository).name, "files": []}

    with _explained(repository):
        info = HfApi().repo_info(
            repository.id, repo_type=repository.kind, revision=repository.revision, files_metadata=True, timeout=30
        )
        names = [f.rfilename for f in info.siblings]
        if names:
            _ask_for(repository, names[0])
    if repository.kind == "model" and not {_WEIGHTS, _INDEX} & set(names):
        raise _no_weights(repository)
    files = [{"name": f.rfilename, "size": f.size, "sha256": f.lfs.sha256 if f.lfs else None} for f in info.siblings]
    return {**asdict(repository), "commit": info.sha, "files": files}


def _ask_for(repository: Repository, name: str) -> None:
    """Whether a file may be read: a gated repository shows its list of files to everyone.

    Proxies of companies know the addresses of files, but not that of the hub's own check of rights.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository.id, name, repo_type=repository.kind, revision=repository.revision)
    try:
        get_hf_file_metadata(url, timeout=30)
    except (errors.GatedRepoError, errors.RepositoryNotFoundError):
        raise
    except errors.HTTPError:
        # A proxy that answers no questions about files; whether they can be had shows when they are
        # fetched.
        return


@contextmanager
def _explained(repository: Repository) -> Iterator[None]:
    """Turns the errors of the hub's client into what to do about them."""

    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{'datasets/' if repository.kind == 'dataset' else ''}{repository.id}"
    try:
        yield
    except errors.GatedRepoError as error:
        what = f"is gated: ask for access at {page}, then `hf auth login` (or set HF_TOKEN) with an account that has it"
        raise HubError(f"{repository} {what}") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{repository}: there is no such revision; {page}/commits/main lists them") from error
    except errors.RepositoryNotFoundError as error:
        what = (
            f"does not exist, or is private: look at {page}, and `hf auth login` (or set HF_TOKEN) if you may read it"
        )
        raise HubError(f"{repository} {what}") from error
    except (errors.HTTPError, OSError) as error:
        what = f"cannot be had from {constants.ENDPOINT} ({type(error).__name__}: {error})"
        raise HubError(
            f"{repository} {what}; try again, name a mirror with HF_ENDPOINT, or give a local folder"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def on_hub(path: str) -> bool:
    """Whether a model's path names a hub repository: owner/name, and no folder of that name."""
    return bool(re.fullmatch(r"[\w.-]*\w/[\w.-]+", path)) and not Path(path).is_dir()
