"""The workflow away from its folder: other working directories, blanks in paths, and use as a
module of another workflow.
"""

import pytest
import yaml
from conftest import ROOT
from test_workflow import copy_repository, planned, snakemake

pytestmark = pytest.mark.workflow

SMOKE = ROOT / "presets" / "smoke.yaml"


def files_of(folder):
    return {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def test_a_run_elsewhere_reads_the_checkout_and_writes_nothing_into_it(tmp_path):
    checkout, elsewhere = tmp_path / "check out; 'quoted'", tmp_path / "runs of mine"
    copy_repository(checkout)
    elsewhere.mkdir()
    before = files_of(checkout)
    folders = {"results": "my results", "logs": "my logs", "benchmarks": "my $benchmarks", "figures": "my figures"}
    own = {"pathvars": folders, "dataset_registry": {"pocket-gsm": {"train": {"problems": 30}}}}
    (tmp_path / "own config.yaml").write_text(yaml.safe_dump(own | {"trajectories": {"problems": 10, "samples": 4}}))
    positive = "my results/pocket-s/pocket-gsm/positive.parquet"
    options = (
        "--directory",
        str(elsewhere),
        "-s",
        str(checkout / "Snakefile"),
        "--configfile",
        str(tmp_path / "own config.yaml"),
    )
    snakemake("--cores", "2", *options, "--", positive, cwd=tmp_path)
    assert (elsewhere / positive).is_file()
    assert (elsewhere / "my logs" / "sample" / "pocket-s" / "pocket-gsm.log").is_file()
    assert files_of(checkout) == before
    assert planned(*options, "--", positive, cwd=tmp_path) == {}


def test_a_file_of_the_working_directory_comes_before_the_projects(tmp_path):
    (tmp_path / "data" / "paper").mkdir(parents=True)
    (tmp_path / "data" / "paper" / "table1.csv").write_text("")
    told = snakemake(
        "-n",
        "-p",
        "-s",
        str(ROOT / "Snakefile"),
        "--configfile",
        str(SMOKE),
        "--",
        "results/smoke/table1.csv",
        cwd=tmp_path,
    )
    assert "--published data/paper/table1.csv" in told.stdout + told.stderr
    assert f"--model {ROOT}/data/models/pocket-s" in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("config", "trainings"),
    [("config", 24), ('{"seeds": [1, 2], "models": ["pocket-s"]}', 24), ('{"methods": ["baseline", "cdpo"]}', 4)],
)
def test_another_workflow_uses_this_one_as_a_module(tmp_path, config, trainings):
    (tmp_path / "Snakefile").write_text(
        f"module critical:\n    snakefile: {str(ROOT / 'Snakefile')!r}\n    config: {config}\n"
        "use rule * from critical as critical_*\n"
        "rule mine:\n    input: 'results/table1.csv', 'results/significance.csv'\n"
    )
    jobs = planned("--cores", "1", "mine", cwd=tmp_path)
    assert jobs["critical_align"] == trainings
    assert jobs["mine"] == 1
