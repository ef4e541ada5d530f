"""What README.md and docs/ tell a reader to type works as it stands: every block of settings and
every command of Snakemake.
"""

import json
import re
import shlex
import shutil
import sys

import dry_runs
import gguf_models
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from made_tokenizers import CHATML
from test_workflow import copy_repository, run, snakemake

from critical_tokens.data import sources

pytestmark = pytest.mark.workflow

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHANGES = ROOT / "docs" / "change-one-thing.md"
REGISTRY = "scripts/critical_tokens/objectives/registry.py"
# What the examples name, and a reader has: models, problems, annotations, the authors' files.
MODEL = "/models/mine"
GGUF = "models/small-q4_k_m.gguf"
PROBLEMS = ["mine/train.jsonl", "mine/test.jsonl", "data/gsm8k/train.jsonl", "data/gsm8k/test.jsonl"]
OTHERS = [
    "my/annotations.csv",
    *(f"their/files/pocket-{size}/gsm8k/{kind}.json" for size in "sm" for kind in ("sft_pos", "dpo_top")),
]


def indented(text):
    """Blocks of code of a page, without their indentation."""
    blocks = re.findall(r"(?:^ {4}.*\n?(?:^\n(?= {4}))*)+", text, re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in blocks]


def settings_of(page):
    """Blocks that are settings of the workflow, parsed."""
    known = set(yaml.safe_load((ROOT / "config.yaml").read_text())) | {"pathvars"}
    found = []
    for block in indented(page.read_text()):
        with_keys = re.match(r"[a-z_]+:", block)
        settings = yaml.safe_load(block) if with_keys else None
        if isinstance(settings, dict):
            assert set(settings) <= known, f"{page.name}: {block}"
            found.append(settings)
    return found


def commands_of(page):
    """Commands of Snakemake in blocks and in the text, as lists of arguments."""
    text = page.read_text()
    lines = [line for block in indented(text) for line in block.splitlines()]
    spans = [
        " ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE))
    ]
    told = [shlex.split(line, comments=True) for line in (*lines, *spans) if re.match(r"snakemake( |$)", line)]
    return [words[1:] for words in told]


def add_objective(folder):
    """Add the objective of docs/change-one-thing.md to the registry of a copy."""
    blocks = indented(CHANGES.read_text())
    (function,) = [block for block in blocks if block.startswith("def ")]
    (entry,) = [block for block in blocks if block.startswith('"')]
    registry = folder / REGISTRY
    before, opening, behind = registry.read_text().partition("REGISTRY: dict[str, Entry] = {\n")
    registry.write_text(f"{before}{function}\n\n{opening}{entry}{behind}")


SETTINGS = [settings for page in PAGES for settings in settings_of(page)]
COMMANDS = list(dict.fromkeys(tuple(command) for page in PAGES for command in commands_of(page)))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with the examples' files and objective; the model's folder lies beside it."""
    folder = tmp_path_factory.mktemp("reader") / "repository"
    copy_repository(folder)
    add_objective(folder)
    for name in ("mine", "mine-instruct"):
        shutil.copytree(ROOT / "data" / "models" / "pocket-s", folder.parent / name)
    (folder.parent / "mine-instruct" / "chat_template.jinja").write_text(CHATML)
    (folder / GGUF).parent.mkdir()
    gguf_models.write(folder / GGUF)
    for name in (*PROBLEMS, *OTHERS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n")
    for name in PROBLEMS:
        rows = sources.generated("pocket-gsm", "test" if "test" in name else "train", 40, 0)
        lines = [json.dumps({"question": row["question"], "answer": row["answer"]}) for row in rows]
        (folder / name).write_text("\n".join(lines))
    return folder


def configfile(clone, name, settings):
    """Settings of an example as a file of the reader's, who has the model elsewhere."""
    path = clone / name
    path.write_text(yaml.safe_dump(settings).replace(MODEL, str(clone.parent / "mine")))
    return str(path)


def example(section, name):
    """The example that registers a name in a section; pages that repeat it must agree."""
    found = [settings for settings in SETTINGS if name in settings.get(section, {})]
    assert found
    assert all(settings == found[0] for settings in found)
    return found[0]


def dry_runs_of(clone, commands):
    """What dry runs tell, all of which must succeed."""
    told = []
    for command, (status, output) in zip(
        commands, dry_runs.run_all([["-n", *command] for command in commands], clone), strict=True
    ):
        assert status == 0, f"snakemake -n {shlex.join(command)}\n{output}"
        told.append(output)
    return told


def test_every_block_of_settings_is_a_config(clone):
    assert len(SETTINGS) >= 11
    files = [configfile(clone, f"example{number}.yaml", settings) for number, settings in enumerate(SETTINGS)]
    real = [file for file, settings in zip(files, SETTINGS, strict=True) if "datasets" in settings]
    assert len(real) >= 6
    commands = [["--configfile", file] for file in files] + [
        ["--configfile", "presets/own.yaml", file] for file in real
    ]
    for output in dry_runs_of(clone, commands):
        assert re.search(r"^total +\d+$", output, re.MULTILINE)


def test_every_command_of_snakemake_is_understood(clone):
    """The commands of a cluster without conda, as the pages say; mine.yaml is the example that the
    text speaks of.
    """
    assert len(COMMANDS) >= 20
    configfile(clone, "model.yaml", example("model_registry", "mine"))
    (study,) = [settings for settings in SETTINGS if "mine" in settings.get("studies", {}).get("comparisons", {})]
    configfile(clone, "study.yaml", study)
    commands = []
    for words in COMMANDS:
        mine = "study.yaml" if "results/studies/mine.csv" in words else "model.yaml"
        command = [{"conda": "env-modules", "mine.yaml": mine}.get(word, word) for word in words]
        commands.append([*command, "--sdm", "env-modules"] if "slurm" in command else command)
    dry_runs_of(clone, [command for command in commands if command and "--unlock" not in command])


def outputs_of(told):
    """Files that the jobs of a dry run would write."""
    lines = re.findall(r"^    output: (.*)$", told, re.MULTILINE)
    return {name for line in lines for name in line.split(", ")}


def test_another_beta_leaves_the_first_ones_results_alone(clone):
    """Both ways that the page shows: a method of the sweep, and folders of its own."""
    (beside,) = [settings for settings in SETTINGS if "cdpo-beta1.5" in settings.get("methods", ())]
    (apart,) = [settings for settings in SETTINGS if settings.get("contrast") == {"beta": 1.5}]
    files = [configfile(clone, f"{name}.yaml", settings) for name, settings in (("beside", beside), ("apart", apart))]
    first, second, third = map(outputs_of, dry_runs_of(clone, [[], *(["--configfile", file] for file in files)]))
    cell = "results/pocket-s/pocket-gsm"
    scores, adapter = "contrast{}.parquet", "cdpo{}/seed1/adapter_model.safetensors"
    for name in (scores, adapter):
        assert {f"{cell}/{name.format('')}", f"{cell}/{name.format('-beta1.5')}"} <= second
        assert f"{cell}/{name.format('-beta1.5')}" not in first
    assert all(re.match(r"(results|figures)/beta1\.5/", name) for name in third)
    assert len(third) == len(first)


def test_the_settings_in_force_are_told_for_a_model_of_ones_own(clone):
    file = configfile(clone, "model.yaml", example("model_registry", "mine"))
    own = ["--configfile", "presets/own.yaml", file]
    preset, plan, bare, pocket = dry_runs_of(clone, [own, ["plan", *own], ["--configfile", file], []])
    (line,) = [line for line in preset.splitlines() if line.startswith("mine: ")]
    assert "all train problems x 64 answers at temperature 0.7; few-shot prompts: sampling, evaluation" in line
    assert "contrast 0.0003, sft 0.0003" in line
    assert "cdpo 4e-05; gamma 1" in line
    assert line in plan
    assert "mine: 300 train problems x 16 answers at temperature 1; few-shot prompts: none" in bare
    warning = "learning rates of contrast and alignment are those of config.yaml"
    assert warning in bare
    assert warning not in preset
    assert "train problems x" not in pocket
    assert warning not in pocket


def test_a_new_objective_is_a_function_and_an_entry(clone):
    """Its constant reaches the command line, and a wrong value is refused."""
    (settings,) = [settings for settings in SETTINGS if "my_ipo" in settings.get("method_registry", {})]
    file = configfile(clone, "ipo.yaml", settings)
    adapter = "results/pocket-s/pocket-gsm/my_ipo/seed1/adapter_model.safetensors"
    (told,) = dry_runs_of(clone, [["-p", "--configfile", file, "--", adapter]])
    assert re.search(r"--objective ipo\s+--tau 0\.2\s", told)
    settings["method_registry"]["my_ipo"]["tau"] = 0
    ((status, told),) = dry_runs.run_all([["-n", "--configfile", configfile(clone, "wrong.yaml", settings)]], clone)
    assert status != 0
    assert "tau is 0, must be above 0" in told
    loss = (
        "import torch; from critical_tokens.objectives import registry;"
        "one = torch.ones(2, 1); batch = registry.Compared(registry.Method('ipo', {'tau': 0.5}).constants,"
        " torch.tensor([[3.0], [1.0]]), 0 * one, one, one, one, None, one, one, one);"
        "print(registry.REGISTRY['ipo'].losses(batch).tolist())"
    )
    assert run(sys.executable, "-c", loss, cwd=clone / "scripts").stdout == "[1.0]\n"  # (3 - 1 - 1 / (2 * 0.5)) squared


def test_generating_the_docs_says_which_commands_are_still_to_be_run(clone):
    """In a sentence, before anything is written."""
    before = (clone / "README.md").read_text()
    told = run(sys.executable, "docs/generate.py", cwd=clone, check=False)
    assert told.returncode == 1
    asked = re.findall(r"^  (.*?)    \(makes (.*)\)$", told.stderr, re.MULTILINE)
    assert [command for command, _ in asked] == [
        "snakemake", "snakemake studies", "snakemake tuning", "snakemake --configfile presets/released.yaml",
    ]  # fmt: skip
    assert "Traceback" not in told.stderr
    for name in asked[0][1].split(", "):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).touch()
    told = run(sys.executable, "docs/generate.py", cwd=clone, check=False)
    assert re.findall(r"^  snakemake    ", told.stderr, re.MULTILINE) == []
    assert "results/studies/critical_rule.csv" in told.stderr
    assert (clone / "README.md").read_text() == before
    shutil.rmtree(clone / "results")


def test_a_model_and_a_dataset_of_ones_own_run_to_a_metric(clone):
    """For real: a model in bfloat16 on a CPU, and a dataset with a column of answers, trained and
    evaluated.
    """
    model, data = example("model_registry", "mine"), example("dataset_registry", "mine")
    small = {"trajectories": {"problems": 24, "samples": 8}, "evaluation": {"problems": 12}, "alignment": {"epochs": 1}}
    settings = {**model, **data, "figures": {"figure1_cell": {"model": "mine", "dataset": "mine"}}, **small}
    settings["dataset_registry"]["mine"]["max_new_tokens"] = 96
    file = configfile(clone, "mine.yaml", settings)
    metrics = "results/mine/mine/dpo/seed1/metrics.json"
    snakemake("--cores", "2", "--configfile", file, "--", metrics, cwd=clone)
    assert json.loads((clone / metrics).read_text())["n"] == 12
    assert len(pd.read_csv(clone / metrics.replace("metrics.json", "history.csv"))) > 0
