"""Models and datasets of the Hugging Face hub, at pinned revisions.

Access to a repository is checked before anything runs. Its files are downloaded once and compared
with their checksums. Later steps read the local snapshot and need no network. Environment
variables:

HF_ENDPOINT: the address of a mirror of the hub.
HF_HOME: the folder with the local snapshots.
HF_TOKEN: the access token of the user; `hf auth login` stores one, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from critical_tokens.core.provenance import sha256
from critical_tokens.core.records import Failure, expanded, read_json

# The files of a model that are needed: no pickled weights, which may run code, and no code.
_MODEL_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model", "*.tiktoken", "merges.txt")
# The files of a tokenizer, which a GGUF file's model may have from the hub, and of its chat.
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "*.tiktoken", "vocab.json", "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "chat_template.*", "config.json",
)  # fmt: skip
# Weights that are not needed: a second copy in the format of the model's authors, and everything in
# subfolders (copies for other runtimes, adapters).
_NOT_NEEDED = ("consolidated*.safetensors", "*/*.safetensors")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DATASET_FILES = ("*.parquet", "*.json", "*.jsonl", "*.jsonl.gz", "README.md")


class HubError(Failure):
    """A repository cannot be read; the message says what to do about it."""


@dataclass(frozen=True)
class Repository:
    """A repository of the hub.

    kind: "model", "tokenizer" (of a model, without its weights) or "dataset".
    id: "owner/name".
    revision: a commit, a tag or a branch; None stands for the newest state of the main branch.
    """

    kind: str
    id: str
    revision: str | None

    @property
    def type(self) -> str:
        """What the hub calls it: "model" or "dataset"."""
        return "dataset" if self.kind == "dataset" else "model"

    def __str__(self) -> str:
        return f"{self.kind} {self.id} at {self.revision or 'main'}"


def parse(kind: str, text: str) -> Repository:
    """The repository that "owner/name@revision" names; the revision may be missing."""
    name, _, revision = text.partition("@")
    return Repository(kind, name, revision or None)


def check(repositories: Sequence[Repository]) -> list[dict[str, Any]]:
    """Check that every repository can be read; returns what the hub says about each of them.

    The keys are kind, id, revision, commit, and files (the name, size and SHA-256 of each).
    Raises HubError, with a remedy for every repository that cannot be read.
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
    """Download the missing files of a repository; returns the repository and its files.

    The keys are kind, id, revision, commit, and files (size and SHA-256 by name).
    Raises HubError where a file does not have the size or checksum that the hub states for it.
    """
    facts = _facts(repository)
    stated = {f["name"]: f for f in facts.pop("files")}
    if stated:
        _download(repository, list(stated))
    folder = snapshot(repository)
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        checksum = sha256(path)
        wanted = stated.get(name, {})
        if wanted.get("sha256") not in (None, checksum) or wanted.get("size") not in (None, path.stat().st_size):
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise HubError(f"{repository}: {name} is damaged and was removed from {folder}; run the same command again")
        files[name] = {"size": path.stat().st_size, "sha256": checksum}
    return facts | {"files": files}


def _download(repository: Repository, names: Sequence[str]) -> None:
    """Download the needed files of a repository, each by its own address.

    The client's `snapshot_download` would request the list of files again, from an address that
    company proxies do not pass on.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined] # has no __all__

    arguments = _client_arguments(repository)
    allowed, ignored = arguments.pop("allow_patterns"), arguments.pop("ignore_patterns")
    needed = set(filter_repo_objects(names, allow_patterns=allowed, ignore_patterns=ignored))

    def download(name: str) -> Path:
        return Path(hf_hub_download(**arguments, filename=name))

    with _with_remedies(repository), ThreadPoolExecutor(8) as pool:
        if repository.kind == "model":
            weights = _weights(repository, names, download)
            needed = {name for name in needed if not name.endswith(".safetensors")} | weights
        list(pool.map(download, sorted(needed)))


def _weights(repository: Repository, names: Collection[str], path_of: Callable[[str], Path]) -> set[str]:
    """The weight files that transformers loads: a single file, or else the parts in the index.

    Raises HubError where there are no weights, or where a file that the index names is missing.
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
        raise HubError(f"{repository}: {_INDEX} names {lacks}; fetch the model again, or ask its authors")
    return found


def _no_weights(repository: Repository) -> HubError:
    what = f"has no safetensors weights ({_WEIGHTS}, or parts with an index)"
    return HubError(f"{repository}: {what}; other weights are not loaded, because they may run code")


def snapshot(repository: Repository) -> Path:
    """The local folder of a downloaded repository; this needs no network.

    Raises HubError where the repository was not downloaded, or only in part.
    """
    from huggingface_hub import snapshot_download

    arguments = _client_arguments(repository)
    if repository.kind == "model":
        # The client's patterns cannot express which weight files are needed where a repository has
        # two sets of weights. So the client ignores the weights, and `_weights` checks them below.
        arguments["ignore_patterns"] = ["*.safetensors"]
    try:
        found = Path(snapshot_download(**arguments, local_files_only=True))
    except (OSError, ValueError) as error:
        raise HubError(
            f"{repository} is no local folder and is not in the cache (HF_HOME); "
            "`snakemake fetched` downloads what the selection needs"
        ) from error
    if repository.kind == "model":
        names = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}
        try:
            _weights(repository, names, lambda name: found / name)
        except HubError as error:
            raise HubError(f"{error}; if {found} is incomplete, fetch it again while the hub can be reached") from error
    return found


def _client_arguments(repository: Repository) -> dict[str, Any]:
    """The arguments of the hub's client that select the needed files of a repository."""
    patterns = {"model": _MODEL_FILES, "tokenizer": _TOKENIZER_FILES, "dataset": _DATASET_FILES}[repository.kind]
    identity = {"repo_id": repository.id, "repo_type": repository.type, "revision": repository.revision}
    ignored = _NOT_NEEDED if repository.kind == "model" else ()
    return {**identity, "allow_patterns": list(patterns), "ignore_patterns": list(ignored)}


def _facts(repository: Repository) -> dict[str, Any]:
    from huggingface_hub import HfApi, constants

    if constants.is_offline_mode():
        # The hub is switched off (HF_HUB_OFFLINE), so only the cache can be checked.
        return {**asdict(repository), "commit": snapshot(repository).name, "files": []}

    with _with_remedies(repository):
        info_of = HfApi().model_info if repository.type == "model" else HfApi().dataset_info
        info = info_of(repository.id, revision=repository.revision, files_metadata=True, timeout=30)
        listed = info.siblings or []
        names = [f.rfilename for f in listed]
        if names:
            _check_access(repository, names[0])
    if repository.kind == "model" and not {_WEIGHTS, _INDEX} & set(names):
        raise _no_weights(repository)
    files = [{"name": f.rfilename, "size": f.size, "sha256": f.lfs.sha256 if f.lfs else None} for f in listed]
    return {**asdict(repository), "commit": info.sha, "files": files}


def _check_access(repository: Repository, name: str) -> None:
    """Raise the client's error where the user may not read this file of a repository.

    The list of files is no proof, because a gated repository shows it to everyone. The hub also has
    an address that checks access rights, but company proxies pass on only the addresses of files.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository.id, name, repo_type=repository.type, revision=repository.revision)
    try:
        get_hf_file_metadata(url, timeout=30)
    except (errors.GatedRepoError, errors.RepositoryNotFoundError):
        raise
    except _http_error():
        # Some proxies do not answer requests about a file. The download will show whether the file
        # can be read.
        return


def _http_error() -> type[Exception]:
    """The base class of the errors of the HTTP library that the hub's client uses."""
    from huggingface_hub import errors

    # The client's module re-exports this class without marking it as exported. The version of the
    # client decides which HTTP library the class belongs to.
    return errors.HTTPError  # type: ignore[attr-defined]


@contextmanager
def _with_remedies(repository: Repository) -> Iterator[None]:
    """Turn errors of the hub's client into a HubError that says what to do about them."""
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
    except (_http_error(), OSError) as error:
        what = f"cannot be read from {constants.ENDPOINT} ({type(error).__name__}: {error})"
        raise HubError(
            f"{repository} {what}; try again, name a mirror with HF_ENDPOINT, or give a local folder"
        ) from error


def folder(kind: str, path: str, revision: str | None) -> Path:
    """The local folder that a path names, or the snapshot of the hub repository with this id.

    Raises HubError where there is neither.
    """
    local = expanded(path)
    return local if local.is_dir() else snapshot(Repository(kind, path, revision))


def on_hub(path: str) -> bool:
    """Whether a model's path is the id of a hub repository (owner/name) and no local folder."""
    return bool(re.fullmatch(r"[\w.-]*\w/[\w.-]+", path)) and not Path(path).is_dir()
