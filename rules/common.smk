"""Helpers only: validation of the config, code versions, and what a path or a flag is made of."""

import sys
from pathlib import Path

from snakemake.utils import validate

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from critical_tokens.token_weights import NEEDS
from critical_tokens.workflow import check_config, code_version, flags, on_hub, visible_gpus

validate(config, "schemas/config.schema.yaml")
check_config(config)

# Every method of the search once more for each learning rate, e.g. dpo-lr0.0005.
TUNED = [(method, rate) for method in config["tuning"]["methods"] for rate in config["tuning"]["learning_rates"]]
config["method_registry"].update(
    {f"{method}-lr{rate:g}": config["method_registry"][method] | {"learning_rate": rate} for method, rate in TUNED}
)


wildcard_constraints:
    model="|".join(config["model_registry"]),
    dataset="|".join(config["dataset_registry"]),
    method="|".join(config["method_registry"]),
    split="train|validation|test",
    side="positive|negative",
    seed=r"\d+",


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
    if hub_model(wildcards.model):
        return [ancient("<results>/hub/models/{model}.json")]
    folder = Path(config["model_registry"][wildcards.model]["path"])
    if folder.parts[:2] == ("results", "pretrained"):
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


def source_flags(wildcards):
    source = config["dataset_registry"][wildcards.dataset].get(wildcards.split)
    if source is None:
        raise ValueError(f"dataset_registry: {wildcards.dataset} has no {wildcards.split} split")
    if "path" in source:
        source = {key: value for key, value in source.items() if key not in ("hub", "subset", "hub_split", "revision")}
    return flags(**source)


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


def rollout_flags():
    """How rollouts are made: the procedure, its size, and how far it goes. Whole curves know of no thresholds."""
    settings = config["rollouts"]
    size = (
        {"branches": settings["stratified"]["branches"]}
        if settings["method"] == "stratified"
        else {"rollouts": settings["samples"]}
    )
    until = list(thresholds().values()) if settings["extent"] == "critical" else None
    return flags(method=settings["method"], **size, until_critical=until)


def thresholds():
    """When a rollout score makes a token critical: counts and stratified scores have thresholds of their own."""
    settings = config["rollouts"]
    own = settings["stratified"] if settings["method"] == "stratified" else {"later": settings["later"], "zero": 0.0}
    return {key: own[key] for key in ("later", "zero")}


def evaluation_flags(wildcards):
    return flags(
        temperature=config["evaluation"]["temperature"],
        top_p=config["evaluation"]["top_p"],
        max_new_tokens=config["dataset_registry"][wildcards.dataset]["max_new_tokens"],
        limit=config["evaluation"]["problems"],
        **engine_settings(wildcards),
    )


# --- training

TRAINING_KEYS = (
    "learning_rate",
    "epochs",
    "batch_size",
    "accumulation",
    "schedule",
    "warmup_share",
    "weight_decay",
    "checkpoint_updates",
)


def training_flags(settings):
    lora = {f"lora_{key}": value for key, value in settings["lora"].items()}
    switches = {key: str(settings[key]).lower() for key in ("gradient_checkpointing", "packing")}
    return flags(**{key: settings[key] for key in TRAINING_KEYS}, **switches, **lora)


def contrast_flags(wildcards):
    return f"{training_flags(config['contrast'])} {answers_flags(config['contrast'])}"


def answers_flags(settings):
    """What is trained of a set of answers."""
    return flags(eos_trained=str(settings["eos_trained"]).lower(), held_out=settings["held_out"])


def method_settings(method):
    """Settings of a method: its entry over the defaults of `alignment`."""
    return config["alignment"] | config["method_registry"][method]


def method_flags(wildcards):
    settings = method_settings(wildcards.method)
    keys = {
        "nll": (),
        "dpo": ("gamma",),
        "rpo": ("gamma", "rpo_alpha"),
        "tdpo": ("gamma", "tdpo_variant", "tdpo_alpha"),
        "cdpo": ("gamma",),
        "cdpo_released": ("gamma",),
    }[settings["objective"]]
    own = {key: settings[key] for key in ("objective", *keys)}
    weights = weights_of(wildcards.method)
    own |= {"weights": weights, "eos_weight": settings["eos_weight"] if weights else None}
    answers = answers_flags(settings) if settings["objective"] == "nll" else ""
    return f"{training_flags(settings)} {flags(**own)} {answers}"


ADAPTER_FILES = ["adapter_model.safetensors", "adapter_config.json"]


def adapter_chain(method):
    """Methods whose adapters make up a method's model, the one nearest to the base first."""
    entry = config["method_registry"][method]
    before = [] if entry["start"] == "base" else adapter_chain(entry["start"])
    return before if entry["objective"] == "none" else [*before, method]


def adapter_folders(methods):
    return [f"<results>/{{model}}/{{dataset}}/{method}/seed{{seed}}/adapter_model.safetensors" for method in methods]


def start_adapters(wildcards):
    start = config["method_registry"][wildcards.method]["start"]
    return adapter_folders([] if start == "base" else adapter_chain(start))


def own_adapters(wildcards):
    return adapter_folders(adapter_chain(wildcards.method))


def training_data(wildcards):
    """What a method trains on: the positive set, or pairs with the scores that its objective asks for."""
    entry = config["method_registry"][wildcards.method]
    cell = "<results>/{model}/{dataset}"
    if entry["objective"] == "nll":
        return {"answers": f"{cell}/positive.parquet"}
    data = {"pairs": f"{cell}/pairs.parquet"}
    if entry["objective"] != "tdpo":
        folder = cell if entry["start"] == "base" else f"{cell}/{entry['start']}/seed{{seed}}"
        data["reference"] = f"{folder}/reference.parquet"
    tables = {"contrast": f"{cell}/contrast.parquet", "rollouts": f"{cell}/rollout_labels.parquet"}
    kind = weights_of(wildcards.method)
    return data | {name: tables[name] for name in (NEEDS[kind] if kind else ()) if name in tables}


def weights_of(method):
    """What a method's rejected tokens weigh; None for methods that do not weigh them."""
    entry = config["method_registry"][method]
    return entry.get("weights", "contrast") if entry["objective"] in ("cdpo", "cdpo_released") else None


def training_data_flags(wildcards, input):
    return flags(**{key: input[key] for key in training_data(wildcards)})


# --- collections


def seeds_of(method):
    """Training seeds of a method; a method without training has one run."""
    untrained = config["method_registry"][method]["objective"] == "none"
    return config["seeds"][:1] if untrained else config["seeds"]


RUNS = [(method, seed) for method in config["methods"] for seed in seeds_of(method)]
TRAINED = [(method, seed) for method, seed in RUNS if config["method_registry"][method]["objective"] != "none"]
ENTRIES = [f"{method}:{config['method_registry'][method]['start']}:{seed}" for method, seed in RUNS]


def cells(pattern):
    """A path per selected cell."""
    return [pattern.format(model=model, dataset=dataset) for model, dataset in CELLS]


def runs(pattern, selected=None):
    """A path per selected cell, method and seed."""
    return [
        pattern.format(model=model, dataset=dataset, method=method, seed=seed)
        for model, dataset in CELLS
        for method, seed in (RUNS if selected is None else selected)
    ]


def control_runs(pattern):
    """A path per run of the controls."""
    settings = config["controls"]
    return [
        pattern.format(model=model, dataset=dataset, method=method, seed=seed)
        for model in settings["models"]
        for dataset in settings["datasets"]
        for method in settings["methods"]
        for seed in (settings["seeds"] if config["method_registry"][method]["objective"] != "none" else settings["seeds"][:1])
    ]


def cell_metrics(wildcards):
    return [f"<results>/{{model}}/{{dataset}}/{method}/seed{seed}/metrics.json" for method, seed in RUNS]


TUNING_RUNS = [(f"{method}-lr{rate:g}", seed) for method, rate in TUNED for seed in config["seeds"]]
PLOTTED = [(method, seed) for method in config["figures"]["log_probabilities"] for seed in config["seeds"]]
EXAMPLE = "<results>/{model}/{dataset}".format(**config["figures"]["example"])


# --- pretraining of the pocket models

POCKET_DATASETS = ["pocket-gsm", "pocket-math"]
POCKET_STYLES = [config["dataset_registry"][dataset]["style"] for dataset in POCKET_DATASETS]


def pretraining_flags(wildcards):
    settings = config["pretraining"]
    common = {key: settings[key] for key in ("vocabulary", "batch_size", "seed")}
    own = {key: settings[key][wildcards.name] for key in ("documents", "learning_rate", "prompt_weight")}
    return flags(**settings["shapes"][wildcards.name], **own, **common)


def card_flags(wildcards):
    """How a base model is measured: sampled as the pocket cells sample their trajectories."""
    settings = config["trajectories"]
    keys = ("temperature", "top_p", "max_batch_tokens", "seed")
    limits = [config["dataset_registry"][dataset]["max_new_tokens"] for dataset in POCKET_DATASETS]
    return flags(
        datasets=POCKET_DATASETS,
        styles=POCKET_STYLES,
        max_new_tokens=max(limits),
        sampled_problems=config["pretraining"]["measured_problems"],
        **{key: settings[key] for key in keys},
    )
