"""The house: which packages the library has, what each may import, and how large its rooms are.
Read from the code itself.
"""

import ast
import re
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import ROOT

LIBRARY = ROOT / "scripts" / "critical_tokens"
PACKAGES = sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")


def imported(path):
    """Dotted names below the library that a module imports anywhere, also in function bodies."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("critical_tokens.") for name in names if name.startswith("critical_tokens.")}


def circle(graph):
    """The nodes of a circle of imports; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def arrows(package):
    found = set().union(*(imported(path) for path in (LIBRARY / package).glob("*.py")))
    return {name.split(".")[0] for name in found} - {package}


def test_packages_import_only_downwards():
    assert circle({package: arrows(package) for package in PACKAGES}) == []


def test_a_circle_is_seen():
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_decides_and_imports_what_it_says(package):
    text = ast.get_docstring(ast.parse((LIBRARY / package / "__init__.py").read_text(encoding="utf-8")))
    said = re.search(r"It (?:may import ([\w, ]+)|imports no other package)\.", " ".join(text.split()))
    assert said, "the docstring ends with what the package may import"
    assert "It decides" in text
    assert set(re.split(r", | and ", said[1] or "")) - {""} == arrows(package)


def test_inits_hold_a_docstring_and_nothing_else():
    for package in PACKAGES:
        assert len(ast.parse((LIBRARY / package / "__init__.py").read_text(encoding="utf-8")).body) == 1, package


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_at_most_eight_modules(package):
    assert 1 < len([path for path in MODULES if path.parent.name == package]) <= 8


def test_every_module_lies_in_a_package_and_is_short():
    for path in MODULES:
        assert path.parent.parent == LIBRARY, path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path


def test_modules_within_a_package_import_each_other_without_circles():
    for package in PACKAGES:
        own = [path for path in MODULES if path.parent.name == package]
        names = {path.stem for path in own}
        graph = {
            path.stem: {name.split(".")[1] for name in imported(path) if name.startswith(f"{package}.")} for path in own
        }
        assert circle({name: found & names - {name} for name, found in graph.items()}) == [], package


def test_names_are_taken_once_and_shadow_nothing():
    names = [path.stem for path in MODULES] + PACKAGES
    twice = {name for name, count in Counter(names).items() if count > 1}
    assert not twice
    assert not set(names) & {
        *sys.stdlib_module_names,
        "datasets",
        "torch",
        "transformers",
        "vllm",
        "peft",
        "math_verify",
    }


# --- the rules


RULES = sorted((ROOT / "rules").glob("*.smk"))
HELPERS = {"common.smk", "cluster.smk"}


def functions(path):
    """Names and bodies of the functions that a file of rules defines, nested ones included."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for start, line in enumerate(lines):
        if found := re.match(r"( *)def (\w+)\(", line):
            end = start + 1
            while end < len(lines) and (not lines[end] or lines[end].startswith(f"{found[1]} ") or lines[end] == "):"):
                end += 1
            yield found[2], "\n".join(lines[start + 1 : end]).strip()


def test_helpers_of_rules_are_few_and_short():
    found = {path.name: list(functions(path)) for path in RULES}
    assert {name for name, own in found.items() if own} == HELPERS
    assert 20 < sum(map(len, found.values())) <= 30
    for name, body in (pair for own in found.values() for pair in own):
        code = re.sub(r'^""".*?"""\n', "", body, flags=re.DOTALL)
        assert len(code.splitlines()) < 10, name


CHATS = {"{params.prompt[chat]}", "{params.answers[chat]}", "{params.chat}"}
BUNDLES = {"{params.model}", "{params.engine}", "{params.objective[constants]}", "2>&1 | tee {log:q}", *CHATS}


def test_a_rule_shows_its_flags_one_a_line():
    """Only a model, an engine, a chat and the constants of an objective are bundles."""
    shown = 0
    for path in RULES:
        for block in re.findall(r"^ +shell:\n((?: +f?\".*\"\n)+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            program, *parts = re.findall(r'^ +f?"(.*)"$', block, re.MULTILINE)
            assert re.fullmatch(
                r"(python|\{\{(params\.launcher|resources\.python:q)\}\}) \{SCRIPTS\}/\w+\.py", program
            ), program
            for part in map(str.strip, parts):
                flag = re.fullmatch(r"--[a-z0-9-]+ (\{[^{}]+\}|<\(printf %s \{[^{}]+\}\)|(\w+=\{[^{}]+\} ?)+)", part)
                named = re.fullmatch(r"(\w+=\{[^{}]+\} )+\{params\.about\}", part)  # the second line of --about
                assert flag or named or part in BUNDLES, (path.name, part)
                shown += bool(flag)
    assert shown > 200
