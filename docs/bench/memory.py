"""Memory and time of the programs that read all sampled answers of a cell, at GSM8K's size.

    PYTHONPATH=scripts python docs/bench/memory.py      # some minutes; writes docs/memory.json

The answers are made up: 7,473 problems with 64 samples of 150 tokens each, and an eighth of the
problems for comparison. Memory is the largest resident set of the process (getrusage), its imports
included. Linux also counts the process that started it, so a third process makes the answers. No
worker process of math_verify is needed, because every answer ends with a plain number.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from critical_tokens.core import batches, records
from critical_tokens.core.schemas import SCHEMAS

ROOT = Path(__file__).resolve().parent.parent.parent
PROBLEMS, SAMPLES, TOKENS, CHARACTERS = 7473, 64, 150, 600
VOCABULARY = 128_000


def main() -> None:
    report: dict[str, Any] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tokens": TOKENS,
        "batch_rows": batches.ROWS,
        "runs": [],
    }
    for problems in (PROBLEMS // 8, PROBLEMS):
        with tempfile.TemporaryDirectory(prefix="memory-") as scratch:
            folder = Path(scratch)
            writer = multiprocessing.get_context("spawn").Process(target=_write_cell, args=(folder, problems))
            writer.start()
            writer.join()
            if writer.exitcode:
                sys.exit("the answers were not written")
            for program, arguments in _programs(folder).items():
                seconds, megabytes = _cost(program, arguments)
                print(
                    f"{program}: {problems * SAMPLES} rows, {seconds:.0f} s, {megabytes:.0f} MB",
                    file=sys.stderr,
                    flush=True,
                )
                run = {
                    "program": program,
                    "rows": problems * SAMPLES,
                    "seconds": round(seconds, 1),
                    "mb": round(megabytes),
                }
                report["runs"].append(run)
    records.write_json(ROOT / "docs" / "memory.json", report)


def _write_cell(folder: Path, problems: int) -> None:
    _write_problems(folder / "problems.parquet", problems)
    _write_answers(folder / "trajectories.parquet", problems)


def _write_problems(path: Path, count: int) -> None:
    unused = dict.fromkeys(SCHEMAS["problems"].names)
    own = ({"problem_id": f"train-{i:05}", "question": "How many?", "answer": str(i % 100)} for i in range(count))
    records.write_table(path, "problems", [unused | problem for problem in own])


def _write_answers(path: Path, problems: int) -> None:
    """Sampled answers: about half of them are right, the others state one of ten wrong numbers."""
    rng = np.random.default_rng(0)
    letters = rng.integers(ord("a"), ord("z") + 1, 2 * CHARACTERS, np.uint8).tobytes().decode()
    schema = SCHEMAS["trajectories"]
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        for start in range(0, problems, 64):
            numbers = np.repeat(np.arange(start, min(start + 64, problems)), SAMPLES)
            ids = rng.integers(0, VOCABULARY, len(numbers) * TOKENS, np.int32)
            answers = numbers % 100 + rng.integers(0, 11, len(numbers)) * rng.integers(0, 2, len(numbers))
            begun = rng.integers(0, CHARACTERS, len(numbers))
            columns = [
                [f"train-{i:05}" for i in numbers],
                np.tile(np.arange(SAMPLES, dtype=np.int32), len(numbers) // SAMPLES),
                pa.ListArray.from_arrays(np.arange(0, len(ids) + 1, TOKENS, np.int32), ids),
                [f"{letters[at : at + CHARACTERS]} The answer is {n}." for at, n in zip(begun, answers, strict=True)],
                np.ones(len(numbers), bool),
            ]
            file.write_table(pa.table(columns, schema=schema))


def _programs(folder: Path) -> dict[str, list[str]]:
    answers = ["--trajectories", str(folder / "trajectories.parquet")]
    graded = str(folder / "grades.parquet")
    sets = [
        word for name in ("positive", "negative", "pairs") for word in (f"--{name}", str(folder / f"{name}.parquet"))
    ]
    asked = ["--problems", str(folder / "problems.parquet"), "--style", "gsm8k", "--grader", "released"]
    rule = ["--coverage", "0.5", "--repeated-only", "false", "--seed", "1"]
    return {
        "grade": [*answers, *asked, "--output", graded],
        "select_answers": [*answers, "--grades", graded, *rule, *sets],
    }


def _cost(program: str, arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and megabytes of a program's process."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, str(ROOT / "scripts" / f"{program}.py"), *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{program} failed")
    return time.monotonic() - start, usage.ru_maxrss / 1000


if __name__ == "__main__":
    main()
