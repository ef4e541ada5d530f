"""The true workflow, end to end at the smoke preset, and what makes it run again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import ROOT
from test_workflow import config_with, copy_repository, planned, run, snakemake

from critical_tokens.core.records import read_about, read_table

pytestmark = pytest.mark.workflow

SMOKE = ["--configfile", "presets/smoke.yaml"]
CELL = "results/smoke/pocket-s/pocket-gsm"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the repository in which the smoke preset has been built."""
    target = tmp_path_factory.mktemp("smoke") / "repository"
    copy_repository(target)
    snakemake(*SMOKE, cwd=target)
    return target


def smoke_planned(built, *arguments):
    return planned(*SMOKE, *arguments, cwd=built)


def test_every_artifact_is_there_with_its_meta(built):
    results = built / "results" / "smoke"
    table = pd.read_csv(results / "table1.csv")
    methods = ["baseline", "sft", "sft_dpo", "sft_tdpo", "dpo", "rpo", "cdpo", "cdpo_released"]
    assert table["method"].tolist() == methods
    assert (table["n"] == 60).all()
    assert (table["accuracy"] - 100 * table["correct"] / table["n"]).abs().max() < 1e-3
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()
    assert table["start"].tolist() == ["base", "base", "sft", "sft", "base", "base", "base", "base"]
    for figure in ("fig1", "fig2", "fig6"):
        assert (built / "figures" / "smoke" / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
        assert (built / "figures" / "smoke" / f"{figure}.png").stat().st_size > 10_000
    for artifact in (*results.rglob("*.parquet"), *results.rglob("*.safetensors")):
        meta = json.loads((artifact.with_name(artifact.stem + ".meta.json")).read_text())
        assert {"program", "settings", "inputs", "versions", "wall_seconds"} <= set(meta), artifact
    assert "cDPO" in (results / "table1.md").read_text()


def test_cost_lists_every_rule_that_ran(built):
    cost = pd.read_csv(built / "results" / "smoke" / "cost.csv")
    assert {"sample", "score_rollouts", "align", "evaluate_method", "train_contrast", "plot_fig6"} <= set(cost["rule"])
    assert cost.loc[cost["rule"] == "align", "jobs"].tolist() == [7]
    assert (cost["wall_seconds"] > 0).all()


def test_planted_truth_critical_tokens_lie_at_or_before_the_first_wrong_token(built):
    meta = json.loads((built / CELL / "critical.meta.json").read_text())
    share = meta["at_or_before_first_wrong"] / meta["with_known_first_wrong"]
    print(
        f"critical token at or before the first wrong token in {share:.0%} of {meta['with_known_first_wrong']} trajectories"
    )
    assert meta["found"] >= 8
    assert share > 0.5


def test_the_kept_critical_token_fails_and_a_replacement_helps(built):
    curves = pd.read_csv(built / "results" / "smoke" / "fig2.csv")
    last = curves[curves["k"] == curves["k"].max()].set_index("arm")["pass_at_k"]
    assert last["replaced"] > last["kept"] + 0.2
    assert (curves.sort_values("k").groupby("arm")["pass_at_k"].apply(lambda s: s.is_monotonic_increasing)).all()


def test_training_histories_start_at_log_two_and_reference(built):
    for method in ("sft_dpo", "dpo", "cdpo", "cdpo_released"):
        history = pd.read_csv(built / CELL / method / "seed1" / "history.csv")
        assert abs(history["loss"][0] - 0.6931) < 1e-3, method


def test_every_artifact_says_what_it_belongs_to(built):
    results = built / "results" / "smoke"
    tables = [*results.rglob("*.parquet")]
    assert len(tables) > 25
    for path in tables:
        about = read_about(path, ["dataset"])
        assert about["dataset"] in path.parts or path.parent.name == about["dataset"], path
        if "data" not in path.parts:
            assert about["model"] == "pocket-s"
    for path in results.rglob("metrics.json"):
        run = json.loads(path.read_text())
        assert path.parts[-5:-1] == (run["model"], run["dataset"], run["method"], f"seed{run['seed']}")
    for path in results.rglob("history.csv"):
        runs = pd.read_csv(path)[["model", "dataset", "method", "seed"]].drop_duplicates()
        assert len(runs) == 1
        assert path.parts[-5:-1] == (*runs.iloc[0, :3], f"seed{runs['seed'][0]}")


def test_a_second_run_has_nothing_to_do(built):
    result = snakemake(*SMOKE, cwd=built)
    assert "Nothing to be done" in result.stdout + result.stderr


def test_a_cosmetic_edit_reruns_nothing(built):
    path = built / "scripts" / "critical_tokens" / "decoding" / "distributions.py"
    path.write_text("# A remark.\n" + path.read_text())
    program = built / "scripts" / "sample.py"
    program.write_text(program.read_text().replace('"""Sample trajectories', '"""Draw trajectories'))
    assert smoke_planned(built) == {}


def test_a_real_edit_reruns_the_stages_that_import_it(built):
    path = built / "scripts" / "critical_tokens" / "objectives" / "losses.py"
    original = path.read_text()
    path.write_text(original + "\nCHANGED = True\n")
    try:
        jobs = smoke_planned(built)
    finally:
        path.write_text(original)
    assert jobs["align"] == 7
    assert jobs["train_contrast"] == 2
    assert not {"sample", "grade", "select_answers", "score_rollouts", "replace_critical", "prepare_dataset"} & set(
        jobs
    )


def test_one_hyperparameter_reruns_only_what_depends_on_it(built, tmp_path):
    own = config_with(tmp_path, method_registry={"cdpo": {"learning_rate": 1.0e-4}})
    jobs = planned("--configfile", "presets/smoke.yaml", own[1], cwd=built)
    tables = ["table1_cell", "table1", "significance_cell", "significance"]
    needed = ["align", "evaluate_method", *tables, "plot_fig5", "plot_fig6"]
    assert jobs == dict.fromkeys([*needed, "summarize_cost", "all"], 1)
    own = config_with(tmp_path, rollouts={"later_below": 0.1})
    jobs = planned("--configfile", "presets/smoke.yaml", own[1], cwd=built)
    assert jobs["find_critical"] == 1
    assert "score_rollouts" not in jobs  # a whole curve knows of no threshold
    own = config_with(tmp_path, contrast={"beta": 1.5})
    jobs = planned("--configfile", "presets/smoke.yaml", own[1], cwd=built)
    assert jobs["score_contrast"] == 1
    assert jobs["align"] == 2
    assert "train_contrast" not in jobs
    own = config_with(tmp_path, trajectories={"batch_rows": 100})  # no row depends on it
    assert planned("--configfile", "presets/smoke.yaml", own[1], cwd=built) == {}


def commands_told(page, *starts):
    """The commands of a page that begin with a word, without their comments."""
    lines = re.findall(r"^    (\S.*?)(?:  +#.*)?$", (ROOT / page).read_text(), re.MULTILINE)
    return [next(line for line in lines if line.startswith(start)) for start in starts]


def test_a_run_taken_along_has_nothing_to_do_in_a_fresh_clone(built, tmp_path):
    """With the commands of docs/cluster.md. A clone's files are newer than any results."""
    target = tmp_path / "repository"
    copy_repository(target)
    now = time.time()
    for path in target.rglob("*"):
        os.utime(path, (now, now), follow_symlinks=False)
    pack, unpack = commands_told("docs/cluster.md", "tar cf run.tar", "tar xf run.tar")
    run("bash", "-c", pack, cwd=built)
    (built / "run.tar").rename(target / "run.tar")
    run("bash", "-c", unpack, cwd=target)
    assert smoke_planned(target) == {}
    # What differs is still seen: a setting, and another model under the same name.
    own = config_with(tmp_path, contrast={"beta": 1.5})[1]
    assert planned("--configfile", "presets/smoke.yaml", own, cwd=target)["score_contrast"] == 1
    weights = target / "data" / "models" / "pocket-s" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert smoke_planned(target)["sample"] == 1


def end_jobs(driver):
    """With the commands of docs/cluster.md: find the jobs of a driver that is dead, and end them
    and nothing else.
    """
    listing, ending = commands_told("docs/cluster.md", "ps -u", "kill -- -GROUP")
    listed = run("bash", "-c", f"USER=$(id -un); {listing}").stdout
    assert driver in {int(line.split()[0]) for line in listed.splitlines()}, "no job lives on"
    run("bash", "-c", ending.replace("GROUP", str(driver)))
    time.sleep(0.5)
    states = subprocess.run(
        ["ps", "-o", "stat=", "-g", str(driver)], capture_output=True, text=True, check=False
    ).stdout
    assert {state[0] for state in states.split()} <= {"Z"}, "a job is still there"


def test_a_killed_run_continues_to_the_same_table(built, tmp_path):
    """SIGKILL to the driver and its jobs while sampling, and to the driver alone while training,
    when its jobs live on.
    """
    target = tmp_path / "repository"
    copy_repository(target)
    metrics = f"{CELL}/sft/seed1/metrics.json"
    command = [sys.executable, "-m", "snakemake", *SMOKE, "--", metrics]
    for log, alone in (("sample/pocket-s/pocket-gsm.log", False), ("align/pocket-s/pocket-gsm/sft/seed1.log", True)):
        with subprocess.Popen(command, cwd=target, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            deadline = time.monotonic() + 120
            while not (target / "logs" / "smoke" / log).exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(1.5)
            assert process.poll() is None, "the run was over before it could be killed"
            (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
        if alone:
            end_jobs(process.pid)
        assert "Directory cannot be locked" in run(*command, cwd=target, check=False).stderr
        snakemake("--unlock", cwd=target)
    assert not (target / metrics).exists()
    run(*command, cwd=target)
    assert json.loads((target / metrics).read_text()) == json.loads((built / metrics).read_text())
    assert not list(target.rglob("*.part*"))


def test_other_rollouts_find_critical_tokens_too(built, tmp_path):
    """Stratified scores, and scores only as far as the critical token needs, from the cell's own
    pairs.
    """
    counts = {r["problem_id"]: r["position"] for r in read_table(built / CELL / "critical.parquet", "critical")}
    positions = {}
    for name, settings in {"stratified": {"method": "stratified"}, "critical": {"extent": "critical"}}.items():
        target = tmp_path / name
        shutil.copytree(built, target)
        own = config_with(tmp_path, rollouts=settings)[1]
        snakemake("--configfile", "presets/smoke.yaml", own, "--", f"{CELL}/critical.parquet", cwd=target)
        scores = read_table(target / CELL / "rollouts.parquet", "rollouts")
        assert all(0 <= r["standard_error"] < 1 for r in scores)
        found = {r["problem_id"]: r["position"] for r in read_table(target / CELL / "critical.parquet", "critical")}
        assert found.keys() == counts.keys()
        positions[name] = found, len(scores)
    assert positions["critical"][0] == counts
    assert positions["critical"][1] < positions["stratified"][1]
    same = sum(positions["stratified"][0][k] == counts[k] for k in counts)
    print(f"stratified scores find the critical token of the counts in {same} of {len(counts)} trajectories")
    assert same >= len(counts) / 3


def test_a_foreign_artifact_is_named(built, tmp_path):
    """In a copy: jobs that fail on it take their outputs with them."""
    target = tmp_path / "repository"
    shutil.copytree(built, target)
    pairs = target / CELL / "pairs.parquet"
    pairs.write_bytes(pairs.read_bytes()[:-40])
    result = snakemake(*SMOKE, cwd=target, check=False)
    assert result.returncode != 0
    assert re.search(rf"error: {CELL}/pairs.parquet: is not a complete Parquet file", result.stdout + result.stderr)


def test_the_real_gsm8k_runs_to_the_end(built, shared, tmp_path):
    """Sampling, grading and evaluating a pocket model on real problems, however low the number."""
    paths = {split: {"path": str(shared(f"gsm8k/{split}.jsonl.gz"))} for split in ("train", "test")}
    own = config_with(
        tmp_path,
        dataset_registry={"gsm8k": {"max_new_tokens": 96, **paths}},
        evaluation={"problems": 40},
        trajectories={"problems": 10, "samples": 2},
    )[1]
    cell = "results/smoke/pocket-s/gsm8k"
    targets = [f"{cell}/baseline/seed1/metrics.json", f"{cell}/grades.parquet"]
    snakemake("--configfile", "presets/smoke.yaml", own, "--", *targets, cwd=built)
    metrics = json.loads((built / cell / "baseline" / "seed1" / "metrics.json").read_text())
    print(
        f"real GSM8K, first 40 test problems: {metrics['correct']} correct, {metrics['unanswered']} without an answer"
    )
    assert metrics["n"] == 40
    assert 0 <= metrics["accuracy"] < 0.5


def test_shards_change_no_answer(built, tmp_path):
    own = config_with(tmp_path, trajectories={"shards": 3}, rollouts={"shards": 2})[1]
    target = tmp_path / "repository"
    copy_repository(target)
    snakemake("--configfile", "presets/smoke.yaml", own, "--", f"{CELL}/rollouts.parquet", cwd=target)
    for name in ("trajectories", "grades", "pairs", "rollouts"):
        one, several = (pd.read_parquet(folder / CELL / f"{name}.parquet") for folder in (built, target))
        pd.testing.assert_frame_equal(one, several)
    metas = [json.loads((folder / CELL / "trajectories.meta.json").read_text()) for folder in (built, target)]
    assert metas[0]["tokens_generated"] == metas[1]["tokens_generated"]


@pytest.mark.parametrize("method", ["sft", "rpo", "sft_tdpo"])
def test_two_processes_train_what_one_does(built, tmp_path, method):
    """The same losses and the same adapter, within float tolerance."""
    from safetensors.torch import load_file

    own = config_with(tmp_path, model_registry={"pocket-s": {"processes": 2}})[1]
    target = tmp_path / "repository"
    shutil.copytree(built, target)
    folder = f"{CELL}/{method}/seed1"
    (target / folder / "adapter_model.safetensors").unlink()
    command = ["--configfile", "presets/smoke.yaml", own, "--rerun-triggers", "mtime"]
    snakemake(*command, "--", f"{folder}/adapter_model.safetensors", cwd=target)
    one, two = (pd.read_csv(where / folder / "history.csv") for where in (built, target))
    pd.testing.assert_frame_equal(one, two, rtol=1e-3, atol=1e-4)
    one, two = (load_file(where / folder / "adapter_model.safetensors") for where in (built, target))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert (value - two[name]).abs().max() < 1e-3 * value.abs().max() + 1e-4, name


def test_a_cell_goes_on_from_a_package(built, tmp_path):
    package = "results/smoke/packages/pocket-s/pocket-gsm.tar"
    snakemake(*SMOKE, "--", package, cwd=built)
    target = tmp_path / "repository"
    copy_repository(target)
    run(sys.executable, "scripts/unpack.py", str(built / package), "--results", "results/smoke", cwd=target)
    jobs = planned(*SMOKE, "--", f"{CELL}/table1.csv", cwd=target)
    assert jobs == {"table1_cell": 1}
    own = config_with(
        tmp_path, methods=["cdpo", "more"], method_registry={"more": {"objective": "dpo", "start": "base"}}
    )[1]
    command = ["--configfile", "presets/smoke.yaml", own, "--", f"{CELL}/table1.csv"]
    assert planned(*command, cwd=target) == {"align": 1, "evaluate_method": 1, "table1_cell": 1}
    snakemake(*command, cwd=target)
    row = pd.read_csv(target / CELL / "table1.csv").set_index("method").loc["cdpo"]
    assert row["correct"] == pd.read_csv(built / CELL / "table1.csv").set_index("method").loc["cdpo", "correct"]
