"""Both graders on graded completions: their agreement with stored verdicts, and their speed.

    PYTHONPATH=scripts python docs/bench/grading.py FOLDER     # writes docs/grading.json

FOLDER has gsm8k.jsonl.gz and math.jsonl.gz. A row has:

- completion, gold, source;
- verdict: of the source's own grader;
- released_grader_antlr_4_13: the verdict of the authors' grader;
- math_verify_0_9: the library's verdict, null where it was not run.

Speeds are measured after a warm start, over distinct pairs. `released` is measured per second of
processor time. `math_verify` is measured per second of wall time, with a worker on each core, so
the machine must be idle.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from critical_tokens.core import records
from critical_tokens.grading import answers, verify

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    folder = Path(sys.argv[1])
    report: dict[str, Any] = {"cores": os.cpu_count()}
    # The workers' start is not what is measured.
    with verify.Workers() as workers:
        workers.grade([(r"so \boxed{\frac{1}{2}}", "0.5"), (r"so \boxed{\frac{1}{3}}", "x")] * workers.count)
        for style in ("gsm8k", "math"):
            with gzip.open(folder / f"{style}.jsonl.gz", "rt", encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines]
            report[style] = {"rows": len(rows)} | _released(rows, style) | _math_verify(rows, workers)
    records.write_json(ROOT / "docs" / "grading.json", report)
    print(json.dumps(report, indent=2))


def _released(rows: list[dict[str, Any]], style: str) -> dict[str, Any]:
    pairs = [(row["completion"], row["gold"]) for row in rows]
    start = time.process_time()
    known = {pair: answers.grade(*pair, style) for pair in dict.fromkeys(pairs)}
    seconds = time.process_time() - start
    found = [known[pair].correct for pair in pairs]
    return {
        "released_per_second": round(len(rows) / seconds),
        "released_agreement": _share(found, [row["released_grader_antlr_4_13"] for row in rows]),
        "released_agreement_by_source": _by_source(found, rows, "released_grader_antlr_4_13"),
        "released_and_the_sources_graders": _by_source(found, rows, "verdict"),
        "unanswered": sum(known[pair].answer is None for pair in pairs),
    }


def _math_verify(rows: list[dict[str, Any]], workers: verify.Workers) -> dict[str, Any]:
    pairs = [(row["completion"], row["gold"]) for row in rows]
    start = time.monotonic()
    found = verify.verdicts(pairs, workers)
    seconds = time.monotonic() - start
    asked = [
        (a, row["math_verify_0_9"]) for a, row in zip(found, rows, strict=True) if row["math_verify_0_9"] is not None
    ]
    return {
        "math_verify_per_second": round(len(rows) / seconds),
        "math_verify_agreement": _share(*zip(*asked, strict=True)),
        "math_verify_and_the_sources_graders": _by_source(found, rows, "verdict"),
        "timed_out": sum(verdict is None for verdict in found),
    }


def _share(found: Any, expected: Any) -> float:
    pairs = list(zip(found, expected, strict=True))
    return round(sum(a == b for a, b in pairs) / len(pairs), 5)


def _by_source(found: list[bool | None], rows: list[dict[str, Any]], expected: str) -> dict[str, float]:
    """Agreement with the verdicts of a column, by source of the completions."""
    sources: dict[str, list[bool]] = {}
    for verdict, row in zip(found, rows, strict=True):
        sources.setdefault(row["source"], []).append(verdict == row[expected])
    return {name: round(sum(same) / len(same), 4) for name, same in sorted(sources.items())}


if __name__ == "__main__":
    main()
