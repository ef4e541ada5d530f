"""Every file is read and written as UTF-8, whatever the machine's locale is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from critical_tokens.core import records

TEXT = {"read_text", "write_text"}
FILES = sorted(p for folder in ("scripts", "docs") for p in (ROOT / folder).rglob("*.py"))


def unspecified(tree):
    """Calls that open a file or a process as text without saying in which encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = {k.arg: k.value for k in node.keywords}
        modes = [
            a.value for a in (*node.args, words.get("mode")) if isinstance(a, ast.Constant) and isinstance(a.value, str)
        ]
        owner = (
            node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        )
        opened = name == "open" and owner not in ("os", "tarfile") and not any("b" in mode for mode in modes)
        opened = opened and not (owner == "gzip" and not any("t" in mode for mode in modes))
        if (name in TEXT or opened or getattr(words.get("text"), "value", False) is True) and "encoding" not in words:
            yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_encodings_are_stated(path):
    assert list(unspecified(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_the_check_sees_what_it_is_for():
    bad = [
        "p.read_text()",
        "p.write_text(x)",
        "open(p)",
        "p.open()",
        "p.open('w')",
        "gzip.open(p, 'rt')",
        "run(c, text=True)",
    ]
    assert [len(list(unspecified(ast.parse(text)))) for text in bad] == [1] * len(bad)
    good = ["p.open('rb')", "gzip.open(p)", "p.read_bytes()", "p.read_text(encoding='utf-8')", "tarfile.open(p)"]
    assert [len(list(unspecified(ast.parse(text)))) for text in good] == [0] * len(good)


PROGRAM = """
import sys
sys.path.insert(0, {scripts!r})
from critical_tokens.workflow import command_line
def main():
    {body}
command_line.run(main)
"""


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (
            "raise MemoryError('of 7 rows')",
            1,
            "error: the memory is too small (of 7 rows); lower trajectories: max_batch",
        ),
        (
            "raise RuntimeError('DefaultCPUAllocator: can\\'t allocate memory: you tried\\nmore')",
            1,
            "error: the memory is too small (DefaultCPUAllocator: can't allocate memory: you tried); lower",
        ),
        ("print('Zo\\xeb \\u591a')", 0, ""),
        (
            "raise OSError(28, 'No space left on device', 'results/x.parquet')",
            1,
            "error: results/x.parquet: No space left",
        ),
        (
            "raise PermissionError(13, 'Permission denied', 'results/x.parquet')",
            1,
            "error: results/x.parquet: Permission denied",
        ),
        ("raise OSError(30, 'Read-only file system', 'x')", 1, "snakemake --directory FOLDER"),
        (
            "raise RuntimeError('Error while serializing: I/O error: full (os error 28)')",
            1,
            "error: a file: No space left",
        ),
        ("raise RuntimeError('[enforce fail at x.cc:6] . unexpected pos 576 vs 534')", 1, "No space left"),
        ("open('/dev/null/x')", 1, "error: /dev/null/x: Not a directory; there is a file where a folder is needed"),
        ("open('missing.json', encoding='utf-8')", 1, "error: missing.json: No such file or directory"),
        ("raise command_line.Failure('Zo\\xeb is missing')", 1, "is missing"),
    ],
)
def test_a_program_ends_in_words_on_any_terminal(body, code, told):
    program = PROGRAM.format(scripts=str(ROOT / "scripts"), body=body)
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, env=environment)
    assert (result.returncode, b"Traceback" in result.stderr) == (code, False), result.stderr
    assert told in result.stderr.decode()


def test_other_errors_stay_what_they_are():
    program = PROGRAM.format(scripts=str(ROOT / "scripts"), body="raise RuntimeError('a fault of ours')")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30)
    assert b"Traceback" in result.stderr


def test_a_full_disk_is_told_with_the_file(tmp_path):
    """The file that a program writes to first is one of a device that is always full."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    frame = pd.DataFrame({"a": [1]})
    for name, write in (
        ("a.parquet", lambda path: records.write_table(path, "critical", [])),
        ("a.json", lambda path: records.write_json(path, {"a": 1})),
        ("a.csv", lambda path: records.write_csv(path, frame)),
    ):
        path = tmp_path / name
        (tmp_path / f".{name}.{os.getpid()}.part").symlink_to(full)
        with pytest.raises(OSError, match="No space left") as raised:
            write(path)
        assert (raised.value.errno, raised.value.filename) == (28, str(path))
        assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error():
    program = PROGRAM.format(scripts=str(ROOT / "scripts"), body="print('x' * 10_000_000)")
    command = ["bash", "-c", '"$1" -c "$2" | head -c 5', "bash", sys.executable, program]
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"xxxxx", b"")
