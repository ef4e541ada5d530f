"""Helpers only: which files a job reads, and what its flags say. Settings come from `recipe`."""

import re
import shlex
from pathlib import Path

from critical_tokens.configuration import dataset_entries, model_entries
from critical_tokens.core.versions import code_version
from critical_tokens.engines import opening
from critical_tokens.models import gguf_files
from critical_tokens.workflow.recipes import Recipes
from critical_tokens.workflow.refusals import ConfigError, refusing, warning
from critical_tokens.workflow.selections import Selections

# The project's folder and its programs in shell commands. In the project's folder both are relative
# paths, so that the commands of a copied run are those of the original.
HERE = Path() if PROJECT == Path.cwd() else PROJECT
SCRIPTS = shlex.quote(str(HERE / "scripts"))
RESULTS = config.get("pathvars", {}).get("results", "results")
BENCHMARKS = config.get("pathvars", {}).get("benchmarks", "benchmarks")
GRADER = config["grading"]["labels"]
NEVER = "(?!)"  # a pattern that matches nothing

recipe, selections = Recipes(config), Selections(config)

# --- the selection

CELLS = selections.cells()
RUNS = selections.runs(config["methods"], config["seeds"], CELLS)
TRAINED = [run for run in RUNS if recipe.is_trained(run["method"])]
# The runs of one cell, whose model and dataset are wildcards.
CELL_RUNS = selections.runs(
    config["methods"], config["seeds"], [{"model": "{model}", "dataset": "{dataset}"}]
)
CELL_TRAINED = [run for run in CELL_RUNS if recipe.is_trained(run["method"])]
HUB_MODELS, HUB_TOKENIZERS = recipe.hub_models(), recipe.hub_tokenizers()
HUB_DATASETS = recipe.hub_datasets()
TUNED = selections.runs(list(SWEPT["tuning"]), config["seeds"], CELLS)
COUNTED = (
    config["rollouts"]["extent"] == "curve"
    and config["rollouts"]["method"] != "stratified"
)
IN_GGUF = [name for name, entry in config["model_registry"].items() if "gguf" in entry]
CONVERTED = [name for name in gguf_files.CONVERTED if name != "model.safetensors"]
FIGURES = (1, 2, 3, 5, 6)
EXAMPLE = config["figures"]["figure1_cell"]
EXAMPLE_FOLDER = "<results>/{model}/{dataset}".format(**EXAMPLE)


def paths(pattern, rows):
    """A path for each row of names."""
    return [pattern.format(**row) for row in rows]


def any_of(names):
    """A pattern that matches each of the names, and nothing where there are none."""
    return "|".join(map(re.escape, names)) or NEVER


wildcard_constraints:
    model=any_of(config["model_registry"]),
    dataset=any_of(config["dataset_registry"]),
    method=any_of(config["method_registry"]),
    split="train|validation|test",
    side="positive|negative",
    variant="|".join(["", *(f"-{re.escape(name)}" for name in config["variants"])]),
    study=any_of(config["studies"]["comparisons"]),
    distribution=any_of(config["studies"]["replacement"]["distributions"]),
    temperature=r"\d+(\.\d+)?",
    seed=r"\d+",


def refuse(sentence):
    """End Snakemake with a sentence that says what to correct."""
    with refusing():
        raise ConfigError(sentence)


# --- models


def model_files(wildcards):
    """The files of a local base model, or the record that a model was fetched from the hub."""
    check_packages(wildcards.model)
    if recipe.model_repository(wildcards.model):
        # Its time does not matter: a revision is fetched once.
        return [ancient("<results>/hub/models/{model}.json")]
    return model_entries.loaded_files(config, wildcards.model)


def check_packages(model, planned=False):
    """End Snakemake where a job would miss a package; a dry run and a plan only say so."""
    if workflow.is_main_process and not workflow.deployment_settings.deployment_method:
        with warning() if planned or workflow.dryrun else refusing():
            model_entries.check_packages(config, model, PROJECT)


def model_flags(wildcards):
    return recipe.model(wildcards.model)


def engine_flags(wildcards):
    return recipe.engine(wildcards.model)


def engine_environment(wildcards):
    """The environment of the engine that a model is sampled with."""
    engine = opening.entry_of(recipe.engine_name(wildcards.model))
    return f"../envs/{engine.environment}"


def engine_python(wildcards):
    """The Python that samples from a model: of its engine's environment, where `make` made one."""
    engine = recipe.engine_name(wildcards.model)
    # With --sdm, the environment of the rule has the engine.
    deployed = workflow.deployment_settings.deployment_method
    own = None if deployed else opening.python_of(engine, HERE)
    return str(own or "python")


def adapters_of(chain):
    """The adapters of a chain of methods, with the seed of the job."""
    return lambda wildcards: [
        f"<results>/{{model}}/{{dataset}}/{method}/seed{{seed}}/adapter_model.safetensors"
        for method in chain(wildcards.method)
    ]


# --- datasets and prompts


def split_of(wildcards):
    """The source of a split. Ends Snakemake for a split that the dataset does not have."""
    entry = config["dataset_registry"][wildcards.dataset]
    if wildcards.split not in entry:
        named = f"dataset_registry: {wildcards.dataset} has no {wildcards.split} split"
        refuse(f"{named}; give it a path, e.g. path: FILE.jsonl")
    return entry[wildcards.split]


def source_files(wildcards):
    """The local file of a split, or the record that the split was fetched from the hub."""
    source = split_of(wildcards)
    if recipe.split_repository(wildcards.dataset, wildcards.split):
        return [ancient("<results>/hub/datasets/{dataset}/{split}.json")]
    return [source["path"]] if "path" in source else []


def train_problems(wildcards):
    """The train split that a test split of real problems must not repeat."""
    entry = config["dataset_registry"][wildcards.dataset]
    real = (
        wildcards.split == "test"
        and "world" not in entry.get("test", {})
        and "train" in entry
    )
    return ["<results>/data/{dataset}/train.parquet"] if real else []


def prompt_of(stage):
    """The prompt settings of a stage in `prompts`."""
    return lambda wildcards: recipe.prompt(
        stage, wildcards.model, wildcards.dataset, wildcards.get("variant", "")
    )


def shots_of(stage):
    """The worked examples in front of a stage's questions, if it has any."""
    return lambda wildcards: (
        ["<results>/data/{dataset}/shots.json"] if recipe.few_shot(stage) else []
    )


def shots_source(wildcards):
    """Where a dataset's worked examples come from; ends Snakemake where there are none."""
    shots = config["dataset_registry"][wildcards.dataset].get("shots")
    if not shots:
        refuse(
            f"dataset_registry: {wildcards.dataset} has no shots, which few-shot prompts are made of"
        )
    if workflow.is_main_process and not workflow.deployment_settings.deployment_method:
        with refusing():
            model_entries.check_task(config, wildcards.dataset)
    return {"task": None} | shots


def shots_problems(wildcards):
    """The problems of the split that worked examples come from, if they come from a split."""
    shots = config["dataset_registry"][wildcards.dataset].get("shots", {})
    return (
        [f"<results>/data/{{dataset}}/{shots['split']}.parquet"]
        if "split" in shots
        else []
    )


def annotation_files(wildcards):
    """First errors that people found in a dataset's answers."""
    path = config["dataset_registry"][wildcards.dataset].get("annotations")
    return [path] if path else []


# --- the authors' own files instead of sampling

RELEASED = [name for name in config["dataset_registry"] if recipe.is_released(name)]
with refusing():
    SCORED = [name for name in RELEASED if dataset_entries.are_scored(config, name)]


def released_folder(wildcards):
    return str(
        dataset_entries.released_folder(config, wildcards.model, wildcards.dataset)
    )


def released_files(wildcards):
    return sorted(str(path) for path in Path(released_folder(wildcards)).glob("*.json"))


# --- methods


def training_table(name):
    """The table with this name, if a method trains on it, as a list of paths."""
    return lambda wildcards: [
        f"<results>/{{model}}/{{dataset}}/{file}"
        for table, file in recipe.tables(wildcards.method).items()
        if table == name
    ]


def contrast_adapter(side):
    """The adapter of the positive or negative model that a variant's scores come from."""
    return lambda wildcards: (
        f"<results>/{{model}}/{{dataset}}/{side}{recipe.trained_variant(wildcards.variant)}/adapter_model.safetensors"
    )
