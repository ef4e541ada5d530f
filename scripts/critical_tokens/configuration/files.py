"""Reading the files of a config; values that YAML reads in an unexpected way are refused.

Snakemake reads the same files. It takes the last of two equal keys, reads 010 as the octal number
8, and does not name the file and the line of a mistake.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from critical_tokens.workflow.refusals import Refusals, collected

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")}
_OCTAL, _SEXAGESIMAL = (re.compile(r"[-+]?0[0-7_]+"), re.compile(r"[-+]?\d[\d_]*(:[0-5]?\d)+(\.\d*)?"))
# The key that makes Snakemake run the Python expressions of a config.
_EXPRESSIONS = "__use_yte__"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

# The name of the layer with the values of `snakemake --config`.
COMMAND_LINE = "--config"


class Layer(NamedTuple):
    """The values of one file or of the command line. Later layers override earlier ones."""

    name: str
    content: Mapping[str, Any]


def read_files(paths: Iterable[Path]) -> list[Layer]:
    """Read config files, in their order. Raises ConfigError that names files and lines."""
    layers = []
    with collected() as found:
        for path in paths:
            content = _read(path, found)
            if content is not None:
                layers.append(Layer(str(path), content))
    return layers


def _read(path: Path, found: Refusals) -> Mapping[str, Any] | None:
    path = Path(os.path.relpath(path)) if path.is_relative_to(Path.cwd()) else path
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        found.add(f"{path}: cannot be read ({error.strerror})")
        return None
    except UnicodeDecodeError as error:
        found.add(f"{path}: is not UTF-8 ({error})")
        return None
    if _is_json(text):
        # JSON may have tabs between its tokens, but YAML may not.
        text = text.replace("\t", " ")
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        what = f"is not YAML ({error.problem or error.context}); indent with blanks, not with tabs"
        found.add(f"{path}{line}: {what}")
        return None
    except (yaml.YAMLError, RecursionError) as error:
        found.add(f"{path}: is not YAML ({' '.join(str(error).split())})")
        return None
    if not isinstance(node, yaml.MappingNode):
        found.add(f"{path}: is {_kind(node)}, must be a mapping of keys to values, e.g. seeds: [1, 2, 3]")
        return None
    mistakes = list(_mistakes(node, [], set()))
    for number, what in mistakes:
        found.add(f"{path}, line {number}: {what}")
    return None if mistakes else yaml.load(text, Loader=_LOADER)  # noqa: S506 (a SafeLoader)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _kind(node: yaml.Node | None) -> str:
    if node is None:
        return "empty"
    return "a list" if isinstance(node, yaml.SequenceNode) else f"{node.value!r}"


def _mistakes(node: yaml.Node, above: list[str], seen: set[int]) -> Iterator[tuple[int, str]]:
    """Every line of a node that YAML reads in an unexpected way, and what is wrong with it.

    above: the keys that lead to the node. seen: nodes that were visited, as aliases repeat nodes.
    """
    line = node.start_mark.line + 1
    where = ": ".join(above) or "the file"
    if node.tag not in _PLAIN_TAGS:
        yield line, f"{where} is of type {_tag(node.tag)}; put quotes around text, and use no tags"
    if isinstance(node, yaml.ScalarNode):
        yield from ((line, f"{where} is {what}") for what in _odd_number(node))
        return
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for member in node.value:
            yield from _mistakes(member, above, seen)
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = str(key.value)
        here = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            yield here, f"a key of {where} is not text"
            continue
        if name == _EXPRESSIONS:
            yield here, f"{name} turns on Python expressions, which a config of this workflow must not have"
        if name in lines:
            yield here, f"{': '.join([*above, name])} is already in line {lines[name]}; a key may appear only once"
        lines.setdefault(name, here)
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            yield here, f"the key {name!r} of {where} is of type {_tag(key.tag)}; put quotes around it"
        yield from _mistakes(value, [*above, name], seen)


def _odd_number(node: yaml.ScalarNode) -> Iterator[str]:
    """What is wrong with a number that YAML 1.1 reads to another base than ten."""
    if node.tag not in _NUMBERS:
        return
    if _OCTAL.fullmatch(node.value):
        plain = node.value.lstrip("+-0_") or "0"
        what = f"write {plain}, or put quotes around it if it is text"
        yield f"{node.value}, which YAML reads as an octal number; {what}"
    elif _SEXAGESIMAL.fullmatch(node.value):
        what = "write a plain number, or put quotes around it if it is text"
        yield f"{node.value}, which YAML reads as a number to the base 60; {what}"


def _tag(tag: str) -> str:
    return tag.removeprefix("tag:yaml.org,2002:")
