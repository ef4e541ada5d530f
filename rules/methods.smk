"""Helpers only: what a method trains on and with, its variants, and the runs of selections and studies."""

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


# Variants of contrastive estimation by what they append to file names; the default appends nothing.
VARIANTS = {"": {}} | {f"-{name}": entry for name, entry in config["variants"].items()}
# What makes models of their own, other than scores of the same models, and what makes references of their own.
OWN_MODELS, OWN_REFERENCE = ("eos_trained", "held_out", "seed"), ("template",)


def variant_name(method):
    variant = config["method_registry"][method].get("variant")
    return f"-{variant}" if variant else ""


def variant_entry(method):
    return VARIANTS[variant_name(method)]


def varied(variant, keys):
    """The variant where it sets one of the keys, the default where it does not."""
    return variant if any(key in VARIANTS[variant] for key in keys) else ""


def contrast_settings(wildcards):
    settings = config["contrast"] | VARIANTS[wildcards.variant]
    return settings | {"lora": settings["lora"] | {"layers": contrast_layers(wildcards.model)}}


def contrast_layers(model):
    """The layers that the contrastive models adapt; their names differ between architectures."""
    return config["model_registry"][model].get("contrast_layers", config["contrast"]["lora"]["layers"])


def contrast_flags(wildcards):
    settings = contrast_settings(wildcards)
    return f"{training_flags(settings)} {answers_flags(settings)}"


def contrast_adapter(side):
    """The adapter of the positive or negative model that a variant of the scores comes from."""
    return lambda wildcards: (
        f"<results>/{{model}}/{{dataset}}/{side}{varied(wildcards.variant, OWN_MODELS)}/adapter_model.safetensors"
    )


def answers_flags(settings):
    """What is trained of a set of answers."""
    return flags(eos_trained=str(settings["eos_trained"]).lower(), held_out=settings["held_out"])


def method_settings(method):
    """Settings of a method: its entry over the defaults of `alignment`."""
    return config["alignment"] | config["method_registry"][method]


def method_flags(wildcards):
    settings = method_settings(wildcards.method)
    objective = OBJECTIVES[settings["objective"]]
    own = {key: settings[key] for key in ("objective", *objective.constants)}
    weights = weights_of(wildcards.method)
    own |= {"weights": weights, "eos_weight": settings["eos_weight"] if weights else None}
    answers = answers_flags(settings) if objective.data == "answers" else ""
    return f"{training_flags(settings)} {flags(**own)} {answers}"


def lora_layers(wildcards):
    """The layers that the contrastive models and the selected methods adapt with LoRA."""
    asked = [contrast_layers(wildcards.model)]
    asked += [method_settings(method)["lora"]["layers"] for method in config["methods"] if trained(method)]
    return list(dict.fromkeys(layer for layers in asked for layer in layers))


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
    objective = OBJECTIVES[entry["objective"]]
    cell = "<results>/{model}/{dataset}"
    if objective.data == "answers":
        return {"answers": f"{cell}/positive.parquet"}
    data = {"pairs": f"{cell}/pairs.parquet"}
    if objective.reference == "stored":
        folder = cell if entry["start"] == "base" else f"{cell}/{entry['start']}/seed{{seed}}"
        data["reference"] = f"{folder}/reference{varied(variant_name(wildcards.method), OWN_REFERENCE)}.parquet"
    tables = {
        "contrast": f"{cell}/contrast{variant_name(wildcards.method)}.parquet",
        "rollouts": f"{cell}/rollout_labels.parquet",
    }
    kind = weights_of(wildcards.method)
    return data | {name: tables[name] for name in (NEEDS[kind] if kind else ()) if name in tables}


def weights_of(method):
    """What a method's rejected tokens weigh; None for methods that do not weigh them."""
    entry = config["method_registry"][method]
    weighted = trained(method) and OBJECTIVES[entry["objective"]].weighted
    return entry.get("weights", "contrast") if weighted else None


def training_data_flags(wildcards, input):
    return flags(**{key: input[key] for key in training_data(wildcards)})


# --- collections


def trained(method):
    return config["method_registry"][method]["objective"] != "none"


def seeds_of(method, seeds):
    """Training seeds of a method; a method without training has one run."""
    return seeds if trained(method) else seeds[:1]


RUNS = [(method, seed) for method in config["methods"] for seed in seeds_of(method, config["seeds"])]
TRAINED = [(method, seed) for method, seed in RUNS if trained(method)]
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


def packed_tables(wildcards):
    """Tables and contrastive models of a cell; what the authors' files stand in for was never made."""
    tables = ["positive", "negative", "pairs", "rollouts", "critical", "replacement", "contrast", "reference"]
    if wildcards.dataset not in RELEASED:
        tables += ["trajectories", "grades"]
    models = [] if wildcards.dataset in SCORED else ["positive", "negative"]
    files = [f"{table}.parquet" for table in tables] + [f"{side}/{file}" for side in models for file in ADAPTER_FILES]
    return [f"<results>/{{model}}/{{dataset}}/{file}" for file in files]


def study_methods(study):
    """Methods of a study: those that it names, and those of its sweep."""
    settings = config["studies"][study]
    return [*settings["methods"], *SWEPT.get(settings.get("sweep"), [])]


def study_runs(study, pattern):
    """A path per run of a study."""
    settings = config["studies"][study]
    return [
        pattern.format(model=model, dataset=dataset, method=method, seed=seed)
        for model in settings["models"]
        for dataset in settings["datasets"]
        for method in study_methods(study)
        for seed in seeds_of(method, settings["seeds"])
    ]


def temperature_runs(pattern):
    """A path per run and temperature of `temperatures`."""
    settings = config["temperatures"]
    return [
        pattern.format(model=model, dataset=dataset, method=method, seed=seed, temperature=f"{temperature:g}")
        for model in settings["models"]
        for dataset in settings["datasets"]
        for method in settings["methods"]
        for seed in seeds_of(method, settings["seeds"])
        for temperature in settings["temperatures"]
    ]


def replacement_runs(pattern):
    """A path per selected cell, distribution of replacements and seed."""
    return [
        pattern.format(model=model, dataset=dataset, distribution=distribution, seed=seed)
        for model, dataset in CELLS
        for distribution in config["replacement"]["distributions"]
        for seed in config["replacement"]["seeds"]
    ]


def cell_metrics(wildcards):
    return [f"<results>/{{model}}/{{dataset}}/{method}/seed{seed}/metrics.json" for method, seed in RUNS]


COUNTED = config["rollouts"]["extent"] == "curve" and config["rollouts"]["method"] != "stratified"
TUNING_RUNS = [(method, seed) for method in SWEPT["tuning"] for seed in config["seeds"]]
PLOTTED = [(method, seed) for method in config["figures"]["log_probabilities"] for seed in config["seeds"]]
FIGURES = (1, 2, 3, 5, 6)
EXAMPLE = "<results>/{model}/{dataset}".format(**config["figures"]["example"])
