"""The pages for readers: their numbers are those of the tables in docs/, and what they name exists.

tests/test_readme.py tries their commands and examples.
"""

import re
import sys

import yaml
from conftest import ROOT
from test_workflow import copy_repository, run

from critical_tokens.configuration import schema

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_generated_parts_are_current(tmp_path):
    """From the tables in docs/ alone; every part that can be made stands in a page."""
    clone = tmp_path / "repository"
    copy_repository(clone)
    run(sys.executable, "docs/generate.py", "--committed", cwd=clone)
    pages = [*PAGES, ROOT / "data" / "models" / "README.md"]
    for page in pages:
        assert (clone / page.relative_to(ROOT)).read_text() == page.read_text(), f"{page}: python docs/generate.py"
    names = re.findall(r"^<!-- begin (\w+) -->$", "".join(page.read_text() for page in pages), re.MULTILINE)
    known = "import generate; print(*generate.PARTS)"
    assert set(run(sys.executable, "-c", known, cwd=clone / "docs").stdout.split()) == set(names)


def test_links_and_pictures_of_the_pages_exist():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).is_file(), f"{page}: {target}"


def test_files_that_the_pages_name_exist():
    """Paths in backticks, in the project or in the library; utils/ is the released code's."""
    roots = (ROOT, ROOT / "scripts" / "critical_tokens", ROOT / "rules", ROOT / "scripts")
    for page in PAGES:
        for name in re.findall(r"`([\w./-]+\.(?:py|smk|md|yaml|csv|json))`", page.read_text()):
            if "/" in name and not name.startswith(("results/", "my/", "mine/", "utils/")):
                assert any((root / name).exists() for root in roots), f"{page}: {name}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 145


def test_the_changelog_names_every_renamed_key():
    text = (ROOT / "CHANGELOG.md").read_text()
    for old, new in schema.RENAMED.items():
        assert f"| `{old}` | `{new}` |" in text


def test_hooks_run_what_make_check_runs():
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == [line.strip() for line in recipe.splitlines()]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in repository["hooks"])


def test_the_catalog_entry_has_the_catalogs_keys():
    (usage,) = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text()).values()
    assert set(usage) == {"mandatory-flags", "software-stack-deployment"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert usage["software-stack-deployment"]["conda"] is True
