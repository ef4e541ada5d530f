"""Write the generated parts of README.md, docs/ and data/models/README.md.

    python docs/generate.py                copy the last results into docs/, then write the parts
    python docs/generate.py --committed    write the parts from what docs/ holds already

A generated part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`, in whatever page has
these marks. Nobody types a number there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import claims
import evidence
import library
import measurements
import pandas as pd
import real_model

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "results"
FIGURES = ROOT / "figures"
MEASURED = DOCS / "measured.json"

TABLES = ("table1", "significance", "agreement", "critical_kinds", "fig2", "fig5", "cost")
STUDIES = ("table1", "controls", "switches", "beta", "temperatures", "agreement", "critical_rule", "replacement")
# What the pages are written from, by the command that makes it.
SOURCES = {
    "snakemake": [RESULTS / f"{name}.csv" for name in TABLES],
    "snakemake studies": [RESULTS / "studies" / f"{name}.csv" for name in STUDIES],
    "snakemake tuning": [RESULTS / "tuning.csv"],
    "snakemake --configfile presets/released.yaml": [RESULTS / "released" / "table1.csv"],
    "python docs/measure.py": [MEASURED],
}
# Counts of critical tokens in a cell, from the *.meta.json beside critical.parquet.
CRITICAL = ("trajectories", "found", "zero_only", "with_known_first_wrong", "at_or_before_first_wrong")
_PART = re.compile(r"(<!-- begin (\w+) -->\n)(.*?)(<!-- end \2 -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--committed", action="store_true", help="read docs/ alone, and copy no results")
    if not parser.parse_args().committed:
        _require_sources()
        _copy_results()
    written = {path: _filled(path) for path in _pages()}
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")


def _require_sources() -> None:
    """End with the commands that are still to be run, before anything is written."""
    told = []
    for command, paths in SOURCES.items():
        missing = [str(path.relative_to(ROOT)) for path in paths if not path.is_file()]
        if missing:
            told.append(f"  {command}    (makes {', '.join(missing)})")
    if told:
        raise SystemExit(
            "\n".join(["The generated parts of the documentation need the results of these commands first:", *told])
        )


def _copy_results() -> None:
    """Copy the tables and pictures of the last runs into docs/."""
    for picture in [*FIGURES.glob("*.png"), *FIGURES.glob("studies/*.png")]:
        copy = DOCS / picture.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, copy)
    for name in (*TABLES, "tuning"):
        shutil.copy(RESULTS / f"{name}.csv", DOCS / f"{name}.csv")
    shutil.copy(RESULTS / "released" / "table1.csv", DOCS / "table1_released.csv")
    shutil.copytree(RESULTS / "studies", DOCS / "studies", dirs_exist_ok=True)
    if (RESULTS / "slurm.json").is_file():
        shutil.copy(RESULTS / "slurm.json", DOCS / "slurm.json")
    cells = pd.read_csv(DOCS / "fig2.csv")[["model", "dataset"]].drop_duplicates().to_dict("records")
    counted = []
    for cell in cells:
        path = RESULTS / cell["model"] / cell["dataset"] / "critical.meta.json"
        meta = json.loads(path.read_text(encoding="utf-8"))
        counted.append(cell | {name: meta[name] for name in CRITICAL})
    pd.DataFrame(counted).to_csv(DOCS / "critical.csv", index=False, lineterminator="\n")


def _pages() -> Iterator[Path]:
    """Every page that may have generated parts."""
    yield from (ROOT / "README.md", ROOT / "data" / "models" / "README.md", ROOT / "CONTRIBUTING.md")
    yield from sorted(DOCS.rglob("*.md"))


def _filled(page: Path) -> str:
    """The text of a page with its parts written anew; ends the program for an unknown part."""

    def written(part: re.Match[str]) -> str:
        begin, name, _, end = part.groups()
        if name not in PARTS:
            raise SystemExit(f"{page}: nothing makes the part {name}; known are {', '.join(sorted(PARTS))}")
        return begin + PARTS[name]().rstrip() + "\n" + end

    return _PART.sub(written, page.read_text(encoding="utf-8"))


# --- the pocket models


def _cards() -> str:
    lines = []
    for folder in sorted((ROOT / "data" / "models").iterdir()):
        if not (folder / "card.json").is_file():
            continue
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        recipe = card["recipe"]
        lines += [f"### {folder.name}", ""]
        lines.append(
            f"{recipe['parameters']:,} parameters ({recipe['layers']} layers of {recipe['width']}, {recipe['heads']} "
            f"heads); {recipe['tokens']:,} tokens of {recipe['documents']:,} documents, seed {recipe['seed']}, "
            f"final loss {recipe['loss']:.3f}, {recipe['minutes']:.0f} minutes on a busy machine. "
            f"Rebuilt by `{card['command']}`."
        )
        lines += [
            "",
            "| dataset | greedy | 95 % interval | pass@1 | pass@64 | train problems with right and wrong among 16 |",
        ]
        lines.append("|---|---:|---:|---:|---:|---:|")
        for dataset, m in card["measured"].items():
            low, high = m["greedy_interval"]
            lines.append(
                f"| {dataset} | {100 * m['greedy_accuracy']:.1f} | {100 * low:.1f}–{100 * high:.1f} "
                f"| {100 * m['pass_at_1']:.1f} | {100 * m['pass_at_64']:.1f} | {100 * m['mixed_of_16']:.1f} |"
            )
        lines += ["", f"Sampled at temperature {card['temperature']}, top-p {card['top_p']}. Checksums:", ""]
        lines += [f"- `{name}` {checksum}" for name, checksum in card["checksums"].items()]
        lines.append("")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    **claims.PARTS,
    **evidence.PARTS,
    **library.PARTS,
    **measurements.PARTS,
    **real_model.PARTS,
    "cards": _cards,
}


if __name__ == "__main__":
    main()
