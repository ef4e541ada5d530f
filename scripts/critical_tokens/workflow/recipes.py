"""What a job is made of: the settings of every stage, for a model, a dataset and a method.

A rule asks for a mapping and names the flags that its values belong to. What a stage does not read
is not in its mapping, so that a change of it reruns nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from critical_tokens.core.hub import on_hub
from critical_tokens.objectives.registry import REGISTRY
from critical_tokens.training import token_weights
from critical_tokens.workflow.flags import flags

Settings = dict[str, Any]

BASE, UNTRAINED = "base", "none"
_TRAINING = (
    "learning_rate", "epochs", "batch_size", "accumulation", "schedule", "warmup_share", "weight_decay",
    "gradient_checkpointing", "packing", "eos_trained", "held_out", "checkpoint_updates",
)  # fmt: skip
_OF_ANSWERS = ("packing", "eos_trained", "held_out")
_OF_HUB = ("hub", "subset", "hub_split", "revision")
_SOURCE = (
    "world", "seed", "path", *_OF_HUB, "problems", "rows", "question", "solution", "answer", "unanswered",
)  # fmt: skip
# Keys of a variant for which contrastive models of its own are trained, and those for which its
# pairs are scored anew by the reference model.
OWN_MODELS, OWN_REFERENCE = ("eos_trained", "held_out", "seed"), ("template",)


class Recipes:
    """The settings of a completed config, by stage."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._models, self._datasets = config["model_registry"], config["dataset_registry"]
        self._methods = config["method_registry"]
        # By what a variant appends to file names; the default appends nothing.
        self._variants = {"": {}} | {f"-{name}": entry for name, entry in config["variants"].items()}

    # --- models, prompts and sampling

    def model(self, model: str) -> str:
        """Flags of a base model."""
        entry = self._models[model]
        return flags(model=entry["path"], revision=entry.get("revision"), dtype=entry.get("dtype"))

    def model_repository(self, model: str) -> str | None:
        """The hub repository of a model; None for a local folder."""
        entry = self._models[model]
        return _at_revision(entry["path"], entry) if on_hub(entry["path"]) else None

    def split_repository(self, dataset: str, split: str) -> str | None:
        """The hub repository of a split; None for one from elsewhere. A path comes before the hub."""
        source = self._datasets[dataset].get(split, {})
        return _at_revision(source["hub"], source) if "hub" in source and "path" not in source else None

    def hub_models(self) -> dict[str, str]:
        """Hub repositories of the selected models, by model."""
        found = {model: self.model_repository(model) for model in self._config["models"]}
        return {model: repository for model, repository in found.items() if repository}

    def hub_datasets(self) -> dict[tuple[str, str], str]:
        """Hub repositories of the selected datasets, by dataset and split."""
        splits = [(dataset, split) for dataset in self._config["datasets"] for split in ("train", "test")]
        found = {key: self.split_repository(*key) for key in splits}
        return {key: repository for key, repository in found.items() if repository}

    def source(self, dataset: str, split: str) -> Settings:
        """Where the problems of a split come from, with None for what it does not say; a path comes before the hub."""
        stated = self._datasets[dataset][split]
        unread = _OF_HUB if "path" in stated else ()
        return {key: None if key in unread else stated.get(key) for key in _SOURCE}

    def engine_name(self, model: str) -> str:
        """The engine that a model is sampled with."""
        return self._models[model].get("engine", "transformers")

    def engine(self, model: str) -> str:
        """Flags of the engine that a model is sampled with, and of its bounds."""
        own = {key: self._models[model].get(key) for key in ("engine", "tensor_parallel", "context")}
        return flags(**own, max_batch_tokens=self._config["trajectories"]["max_batch_tokens"])

    def prompt(self, stage: str, model: str, dataset: str, variant: str = "") -> Settings:
        """style, template and blank of a stage's prompts; a variant may have a template of its own."""
        template = self._config["prompts"][stage]["template"]
        if stage == "pairs":
            template = self._variants[variant].get("template", template)
        return {
            "style": self._datasets[dataset]["style"],
            "template": template,
            "blank": self._models[model].get("blank", "answer"),
        }

    def few_shot(self, stage: str) -> bool:
        """Whether a stage's prompts have worked examples."""
        return self._config["prompts"][stage]["few_shot"]

    def sampling(self, model: str, dataset: str) -> Settings:
        """How trajectories and rollouts are sampled: temperature, top_p and max_new_tokens."""
        settings = self._config["trajectories"]
        return {
            "temperature": self._models[model].get("temperatures", {}).get(dataset, settings["temperature"]),
            "top_p": settings["top_p"],
            "max_new_tokens": self._datasets[dataset]["max_new_tokens"],
        }

    def evaluation(self, dataset: str, temperature: str | None = None) -> Settings:
        """How test problems are answered; at a temperature of the study of temperatures, or as usual."""
        usual, study = self._config["evaluation"], self._config["studies"]["temperatures"]
        settings: Settings = {
            "temperature": usual["temperature"] if temperature is None else temperature,
            "top_p": usual["top_p"],
            "max_new_tokens": self._datasets[dataset]["max_new_tokens"],
            "problems": (usual if temperature is None else study)["problems"],
            "samples": 1,
        }
        if temperature is not None and float(temperature) > 0:
            settings["samples"] = study["samples"]  # greedy samples are all the same
        return settings

    # --- rollouts

    def rollouts(self, dataset: str) -> Settings:
        """How rollouts are made: the procedure, its size, and how far it goes.

        Answers that others gave need not be possible under the model's own sampling distribution,
        so theirs are continued independently. A whole curve depends on no threshold.
        """
        settings, method = self._config["rollouts"], self._rollout_method(dataset)
        critical = settings["extent"] == "critical"
        return {
            "method": method,
            "samples": None if method == "stratified" else settings["samples"],
            "branches": settings["stratified"]["branches"] if method == "stratified" else None,
            "until_critical": list(self.thresholds(dataset).values()) if critical else None,
        }

    def labels(self, dataset: str) -> Settings:
        """As `rollouts`, for the scores of all rejected answers: stratified where that is possible."""
        settings = self._config["rollouts"]
        released = self.is_released(dataset)
        return {
            "method": "independent" if released else "stratified",
            "samples": settings["samples"] if released else None,
            "branches": None if released else settings["label_branches"],
            "until_critical": None,
        }

    def thresholds(self, dataset: str) -> Settings:
        """later_below and zero_up_to: when a rollout score makes a token critical."""
        settings = self._config["rollouts"]
        if self._rollout_method(dataset) == "stratified":
            return {key: settings["stratified"][key] for key in ("later_below", "zero_up_to")}
        return {"later_below": settings["later_below"], "zero_up_to": 0.0}

    def _rollout_method(self, dataset: str) -> str:
        return "independent" if self.is_released(dataset) else self._config["rollouts"]["method"]

    def is_released(self, dataset: str) -> bool:
        """Whether the authors' own files stand in for sampled answers."""
        return "released_pairs" in self._datasets[dataset]

    # --- contrastive estimation

    def contrast_training(self, model: str, variant: str) -> Settings:
        """Settings of the training of a variant's contrastive models, with its seed."""
        settings = self._config["contrast"] | self._variants[variant]
        layers = self._models[model].get("contrast_layers", settings["lora"]["layers"])
        return _training(settings | {"lora": settings["lora"] | {"layers": layers}}) | {"seed": settings["seed"]}

    def beta(self, variant: str) -> float:
        """The contrast factor of a variant's scores."""
        return (self._config["contrast"] | self._variants[variant])["beta"]

    def trained_variant(self, variant: str) -> str:
        """The variant whose contrastive models a variant's scores come from: itself or the default."""
        return variant if any(key in self._variants[variant] for key in OWN_MODELS) else ""

    # --- methods

    def is_trained(self, method: str) -> bool:
        """Whether a method trains anything; the baseline does not."""
        return self._methods[method]["objective"] != UNTRAINED

    def data(self, method: str) -> str:
        """The kind of data that a method trains on, answers or pairs, which names its prompts, too."""
        return REGISTRY[self._methods[method]["objective"]].data

    def method_prompt(self, method: str, model: str, dataset: str) -> Settings:
        """The prompts that a method trains on."""
        return self.prompt(self.data(method), model, dataset, self.variant(method))

    def training(self, method: str) -> Settings:
        """Settings of a method's training: its entry over the defaults of `alignment`."""
        settings = _training(self._settings(method))
        return settings if self.data(method) == "answers" else settings | dict.fromkeys(_OF_ANSWERS)

    def objective(self, method: str) -> Settings:
        """A method's objective, its constants as flags, and how it weighs rejected tokens, if it does."""
        settings = self._settings(method)
        constants = {name: settings[name] for name in REGISTRY[settings["objective"]].constants}
        weights = self.weights(method)
        return {
            "name": settings["objective"],
            "constants": flags(**constants),
            "weights": weights,
            "eos_weight": settings["eos_weight"] if weights else None,
        }

    def weights(self, method: str) -> str | None:
        """The kind of weights that a method's rejected tokens have; None for one that weighs none."""
        entry = self._methods[method]
        weighted = self.is_trained(method) and REGISTRY[entry["objective"]].weighted
        return entry.get("weights", "contrast") if weighted else None

    def variant(self, method: str) -> str:
        """What a method's variant appends to file names."""
        variant = self._methods[method].get("variant")
        return f"-{variant}" if variant else ""

    def chain(self, method: str) -> list[str]:
        """Methods whose adapters make up a method's model, the one nearest to the base first."""
        return [*self.start_chain(method), *([method] if self.is_trained(method) else [])]

    def start_chain(self, method: str) -> list[str]:
        """Methods whose adapters make up the model that a method starts from."""
        start = self.start(method)
        return [] if start == BASE else self.chain(start)

    def start(self, method: str) -> str:
        """base, or the method that a method starts from."""
        return self._methods[method]["start"]

    def tables(self, method: str) -> dict[str, str]:
        """Files that a method trains on, by what they are, as paths below the folder of its cell."""
        entry = self._methods[method]
        objective = REGISTRY[entry["objective"]]
        if objective.data == "answers":
            return {"answers": "positive.parquet"}
        found = {"pairs": "pairs.parquet"}
        if objective.reference == "stored":
            variant = self.variant(method)
            own = variant if any(key in self._variants[variant] for key in OWN_REFERENCE) else ""
            folder = "" if entry["start"] == BASE else f"{entry['start']}/seed{{seed}}/"
            found["reference"] = f"{folder}reference{own}.parquet"
        tables = {"contrast": f"contrast{self.variant(method)}.parquet", "rollouts": "rollout_labels.parquet"}
        weights = self.weights(method)
        needed = token_weights.entry_of(weights).tables if weights else ()
        return found | {name: tables[name] for name in needed if name in tables}

    def lora_layers(self, model: str) -> list[str]:
        """Layers that the contrastive models and the selected methods adapt, each once."""
        asked = [self.contrast_training(model, "")["lora_layers"]]
        asked += [self.training(method)["lora_layers"] for method in self._config["methods"] if self.is_trained(method)]
        return list(dict.fromkeys(layer for layers in asked for layer in layers))

    def _settings(self, method: str) -> Settings:
        return self._config["alignment"] | self._methods[method]

    # --- selections

    def seeds(self, method: str, seeds: Sequence[int]) -> Sequence[int]:
        """Training seeds of a method; a method without training has one run."""
        return seeds if self.is_trained(method) else seeds[:1]

    def cells(self, selection: Mapping[str, Any] | None = None) -> list[Settings]:
        """The cells of a selection: model and dataset."""
        chosen = self._config if selection is None else selection
        return [{"model": model, "dataset": dataset} for model in chosen["models"] for dataset in chosen["datasets"]]

    def runs(self, methods: Sequence[str], seeds: Sequence[int], cells: Sequence[Settings]) -> list[Settings]:
        """The runs of methods with seeds in cells: model, dataset, method and seed."""
        return [
            cell | {"method": method, "seed": seed}
            for cell in cells
            for method in methods
            for seed in self.seeds(method, seeds)
        ]

    def packed(self, dataset: str, scored: bool) -> list[str]:
        """Files of a cell's package, without those of its methods.

        What the authors' files stand in for was never made: samples, and contrastive models where
        their files have scores (`scored`).
        """
        tables = ["positive", "negative", "pairs", "rollouts", "critical", "replacement", "contrast", "reference"]
        sampled = [] if self.is_released(dataset) else ["trajectories", "grades"]
        models = [] if scored else ["positive", "negative"]
        files = [f"{side}/{name}" for side in models for name in ("adapter_model.safetensors", "adapter_config.json")]
        return [f"{table}.parquet" for table in (*tables, *sampled)] + files

    def comparison(self, study: str, swept: Mapping[str, Iterable[str]]) -> list[Settings]:
        """The runs of a comparison: of the methods that it names, and of those of its sweep."""
        entry = self._config["studies"]["comparisons"][study]
        methods = [*entry["methods"], *swept.get(entry.get("sweep"), ())]
        return self.runs(methods, entry["seeds"], self.cells(entry))

    def temperatures(self) -> list[Settings]:
        """The runs of the study of temperatures, each at every temperature."""
        entry = self._config["studies"]["temperatures"]
        runs = self.runs(entry["methods"], entry["seeds"], self.cells(entry))
        return [run | {"temperature": f"{value:g}"} for run in runs for value in entry["values"]]

    def replacements(self) -> list[Settings]:
        """The selected cells with every distribution of replacements and every seed of the study of them."""
        entry = self._config["studies"]["replacement"]
        return [
            cell | {"distribution": distribution, "seed": seed}
            for cell in self.cells()
            for distribution in entry["distributions"]
            for seed in entry["seeds"]
        ]

    def agreements(self) -> list[Settings]:
        """The cells of the study of contrastive scores, with what follows `agreement` in the name of each table."""
        entry = self._config["studies"]["agreement"]
        variants = ["", *(f"-{name}" for name in entry["variants"])]
        names = [*variants, *(f"_rollouts{seed}" for seed in entry["rollout_seeds"])]
        return [cell | {"scores": name} for cell in self.cells(entry) for name in names]


def _training(settings: Mapping[str, Any]) -> Settings:
    """The settings of a training, those of its adapter as lora_rank, lora_alpha, …"""
    lora = {f"lora_{key}": value for key, value in settings["lora"].items()}
    return {key: settings[key] for key in _TRAINING} | lora


def _at_revision(name: str, entry: Mapping[str, Any]) -> str:
    return f"{name}@{entry['revision']}" if entry.get("revision") else name
