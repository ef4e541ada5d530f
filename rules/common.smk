"""Helpers only: what a path or a flag is made of."""

import re
import shlex
import sys
from pathlib import Path

from critical_tokens.data import authors_files
from critical_tokens.objectives.registry import REGISTRY as OBJECTIVES
from critical_tokens.objectives.token_weights import NEEDS
from critical_tokens.core.hub import on_hub
from critical_tokens.core.versions import code_version
from critical_tokens.workflow.flags import flags, visible_gpus

# As shell commands name it. Within the project's folder that is a relative path, which a copied run shares with its original.
SCRIPTS = "scripts" if PROJECT == Path.cwd() else shlex.quote(f"{PROJECT}/scripts")


def any_of(names):
    """A pattern that matches each of the names, and nothing where there are none."""
    return "|".join(map(re.escape, names)) or NEVER


NEVER = "(?!)"  # a pattern that matches nothing


wildcard_constraints:
    model=any_of(config["model_registry"]),
    dataset=any_of(config["dataset_registry"]),
    method=any_of(config["method_registry"]),
    split="train|validation|test",
    side="positive|negative",
    variant="|".join(["", *(f"-{re.escape(name)}" for name in config["variants"])]),
    distribution="softmax|sampling",
    study=any_of(config["studies"]),
    temperature=r"\d+(\.\d+)?",
    seed=r"\d+",


RESULTS = config.get("pathvars", {}).get("results", "results")
BENCHMARKS = config.get("pathvars", {}).get("benchmarks", "benchmarks")
CELLS = [(model, dataset) for model in config["models"] for dataset in config["datasets"]]


# --- registries


def hub_model(model):
    """The hub repository of a model; None for a local one."""
    entry = config["model_registry"][model]
    return at_revision(entry["path"], entry.get("revision")) if on_hub(entry["path"]) else None


def hub_dataset(dataset, split):
    """The hub repository of a dataset split; None for one from elsewhere."""
    source = config["dataset_registry"][dataset].get(split, {})
    return at_revision(source["hub"], source.get("revision")) if "hub" in source and "path" not in source else None


def at_revision(name, revision):
    return f"{name}@{revision}" if revision else name


HUB_MODELS = {model: hub_model(model) for model in config["models"] if hub_model(model)}
HUB_DATASETS = {
    (dataset, split): hub_dataset(dataset, split)
    for dataset in config["datasets"]
    for split in ("train", "test")
    if hub_dataset(dataset, split)
}


def model_files(wildcards):
    """Files of a local base model, or what says that one of the hub was fetched (whenever that was: revisions are pinned)."""
    check_packages(wildcards.model)
    if hub_model(wildcards.model):
        return [ancient("<results>/hub/models/{model}.json")]
    folder = Path(config["model_registry"][wildcards.model]["path"])
    if folder.parent == Path(RESULTS) / "pretrained":
        return [str(folder / name) for name in ("model.safetensors", "tokenizer.json")]
    return sorted(str(path) for suffix in ("json", "safetensors") for path in folder.glob(f"*.{suffix}") if path.stem != "card")


def model_flags(wildcards):
    return flags_of_model(wildcards.model)


def flags_of_model(model):
    entry = config["model_registry"][model]
    return flags(model=entry["path"], revision=entry.get("revision"), dtype=entry.get("dtype"))


def style(wildcards):
    return config["dataset_registry"][wildcards.dataset]["style"]


def source_files(wildcards):
    """The local file of a dataset split, or what says that it was fetched from the hub."""
    if hub_dataset(wildcards.dataset, wildcards.split):
        return [ancient("<results>/hub/datasets/{dataset}/{split}.json")]
    path = config["dataset_registry"][wildcards.dataset].get(wildcards.split, {}).get("path")
    return [path] if path else []


def train_problems(wildcards):
    """The train split that a test split of real problems must not repeat; a pocket world's splits never do."""
    entry = config["dataset_registry"][wildcards.dataset]
    real = wildcards.split == "test" and "world" not in entry.get("test", {}) and "train" in entry
    return ["<results>/data/{dataset}/train.parquet"] if real else []


def source_flags(wildcards):
    source = config["dataset_registry"][wildcards.dataset].get(wildcards.split)
    if source is None:
        refuse(f"dataset_registry: {wildcards.dataset} has no {wildcards.split} split; give it a path, e.g. path: FILE.jsonl")
    if "path" in source:
        source = {key: value for key, value in source.items() if key not in ("hub", "subset", "hub_split", "revision")}
    return flags(**source)


def annotation_files(wildcards):
    """First errors that people found in a dataset's answers."""
    path = config["dataset_registry"][wildcards.dataset].get("annotations")
    return [path] if path else []


# --- the authors' own files instead of sampling

RELEASED = {name: entry["released_pairs"] for name, entry in config["dataset_registry"].items() if "released_pairs" in entry}


def released_folder(model, dataset):
    """Where the authors' files for a cell lie; {model} in the path stands for the model's name."""
    return RELEASED[dataset].replace("{model}", model)


def released_files(wildcards):
    return sorted(str(path) for path in Path(released_folder(**wildcards)).glob("*.json"))


def scored_by_authors(dataset):
    """Whether the authors' files have contrastive scores: for all selected models, or for none."""
    with refusing():
        style = config["dataset_registry"][dataset]["style"]
        found = {model: "scores" in authors_files.files(Path(released_folder(model, dataset)), style) for model in config["models"]}
    if len(set(found.values())) > 1:
        missing = ", ".join(model for model, has in found.items() if not has)
        refuse(f"dataset_registry: {dataset}: released_pairs has contrastive scores for some models, none for {missing}")
    return all(found.values())


SCORED = [dataset for dataset in RELEASED if scored_by_authors(dataset)]


# --- prompts


def prompt_for(stage):
    """Flags of the prompts of a stage of `prompts`; a variant may have a template of its own."""

    def prompt(wildcards):
        return prompt_flags(wildcards, stage, VARIANTS[wildcards.get("variant", "")])

    return prompt


def prompt_flags(wildcards, stage, variant):
    settings = config["prompts"][stage]
    template = variant.get("template", settings["template"]) if stage == "pairs" else settings["template"]
    return flags(
        style=style(wildcards),
        template=None if template == "usual" else template,
        blank=config["model_registry"][wildcards.model].get("blank"),
        shots=shots_of(wildcards, stage) or None,
    )


def shots_for(stage):
    """The worked examples in front of a stage's questions, if it has any."""
    return lambda wildcards: shots_of(wildcards, stage)


def shots_of(wildcards, stage):
    return [f"{RESULTS}/data/{wildcards.dataset}/shots.json"] if config["prompts"][stage]["few_shot"] else []


def shots_source(wildcards):
    """A task of lm-eval, or the split that worked examples come from."""
    return config["dataset_registry"][wildcards.dataset].get("shots") or {}


def shots_problems(wildcards):
    split = shots_source(wildcards).get("split")
    return [f"<results>/data/{{dataset}}/{split}.parquet"] if split else []


def shots_flags(wildcards, input):
    source = shots_source(wildcards)
    if not source:
        refuse(f"dataset_registry: {wildcards.dataset} has no shots, which few-shot prompts are made of")
    check_task(wildcards.dataset)
    return flags(task=source.get("task"), problems=input.problems or None, count=source["count"])


def training_stage(method):
    return OBJECTIVES[config["method_registry"][method]["objective"]].data


def training_prompt(wildcards):
    return prompt_flags(wildcards, training_stage(wildcards.method), variant_entry(wildcards.method))


def training_shots(wildcards):
    return shots_of(wildcards, training_stage(wildcards.method))


# --- sampling and grading

GRADER = config["grading"]["labels"]


def engine_settings(wildcards):
    """The engine that a model is sampled with, and its bounds."""
    entry = config["model_registry"][wildcards.model]
    own = {key: entry.get(key) for key in ("engine", "tensor_parallel", "context")}
    return own | {"max_batch_tokens": config["trajectories"]["max_batch_tokens"]}


def engine_environment(wildcards):
    """vLLM pins a torch of its own, and so has an environment of its own."""
    return f"../envs/{'vllm' if engine_settings(wildcards)['engine'] == 'vllm' else 'train'}.yaml"


def sampling_flags(wildcards):
    """Sampling distribution and length limit of trajectories and rollouts, and the engine."""
    settings = config["trajectories"]
    own = config["model_registry"][wildcards.model].get("temperatures", {})
    return flags(
        temperature=own.get(wildcards.dataset, settings["temperature"]),
        top_p=settings["top_p"],
        max_new_tokens=config["dataset_registry"][wildcards.dataset]["max_new_tokens"],
        **engine_settings(wildcards),
    )


def rollout_method(wildcards):
    """Answers of others need not be possible under the model's own sampling distribution: theirs are continued afresh."""
    return "independent" if wildcards.dataset in RELEASED else config["rollouts"]["method"]


def rollout_flags(wildcards):
    """How rollouts are made: the procedure, its size, and how far it goes. Whole curves know of no thresholds."""
    settings, method = config["rollouts"], rollout_method(wildcards)
    size = {"branches": settings["stratified"]["branches"]} if method == "stratified" else {"rollouts": settings["samples"]}
    until = list(thresholds(wildcards).values()) if settings["extent"] == "critical" else None
    return flags(method=method, **size, until_critical=until)


def label_flags(wildcards):
    """How all rejected answers are scored: stratified, if the model can have given them."""
    settings = config["rollouts"]
    if wildcards.dataset in RELEASED:
        return flags(method="independent", rollouts=settings["samples"])
    return flags(method="stratified", branches=settings["label_branches"])


def thresholds(wildcards):
    """When a rollout score makes a token critical: counts and stratified scores have thresholds of their own."""
    settings = config["rollouts"]
    counts = {"later": settings["later"], "zero": 0.0}
    own = settings["stratified"] if rollout_method(wildcards) == "stratified" else counts
    return {key: own[key] for key in ("later", "zero")}


def evaluation_flags(wildcards):
    """How answers to test problems are sampled."""
    settings = config["evaluation"]
    answers = answer_flags(wildcards, settings["temperature"], settings["problems"])
    return f"{answers} {flags(**engine_settings(wildcards))}"


def answer_flags(wildcards, temperature, limit, samples=None):
    return flags(
        temperature=temperature,
        top_p=config["evaluation"]["top_p"],
        limit=limit,
        samples=samples,
        max_new_tokens=config["dataset_registry"][wildcards.dataset]["max_new_tokens"],
    )


def exclusion_flags(wildcards):
    """As the baseline was evaluated, but always with the transformers engine: contrastive models score there, too."""
    settings = config["evaluation"]
    answers = answer_flags(wildcards, settings["temperature"], settings["problems"])
    return f"{answers} {flags(max_batch_tokens=config['trajectories']['max_batch_tokens'])}"


def temperature_flags(wildcards):
    """The same at another temperature; a greedy answer is one however often it is asked for."""
    settings = config["temperatures"]
    samples = 1 if float(wildcards.temperature) == 0 else settings["samples"]
    answers = answer_flags(wildcards, wildcards.temperature, settings["problems"], samples)
    return f"{answers} {flags(**engine_settings(wildcards))}"
