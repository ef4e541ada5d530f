"""The settings of every stage, for a model, a dataset and a method.

A rule asks for a mapping of settings and writes each of them to a flag of its program. A mapping
has only the settings that its stage reads, so a change of another setting reruns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critical_tokens.core.hub import on_hub
from critical_tokens.data.prompts import CHAT
from critical_tokens.objectives.registry import REGISTRY
from critical_tokens.training import token_weights
from critical_tokens.workflow.command_line import flags
from critical_tokens.workflow.selections import BASE, UNTRAINED

Settings = dict[str, Any]

_TRAINING = (
    "learning_rate", "epochs", "batch_size", "accumulation", "schedule", "warmup_share", "weight_decay",
    "gradient_checkpointing", "packing", "eos_trained", "held_out", "checkpoint_updates",
)  # fmt: skip
_OF_ANSWERS = ("eos_trained", "held_out")
_OF_HUB = ("hub", "subset", "hub_split", "revision")
_SOURCE = (
    "world", "seed", "path", *_OF_HUB, "problems", "rows", "question", "solution", "answer", "unanswered",
)  # fmt: skip
# Keys of a variant that require contrastive models of its own, and keys that require new
# log-probabilities under the reference model.
OWN_MODELS, OWN_REFERENCE = ("eos_trained", "held_out", "seed"), ("template",)


class Recipes:
    """The settings of a completed config, by stage."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._models, self._datasets = config["model_registry"], config["dataset_registry"]
        self._methods = config["method_registry"]
        # The keys are what a variant appends to file names; the default appends nothing.
        self._variants = {"": {}} | {f"-{name}": entry for name, entry in config["variants"].items()}

    # --- models, prompts and sampling

    def model(self, model: str) -> str:
        """Flags of a base model."""
        entry = self._models[model]
        # The revision is that of the tokenizer where the model is a GGUF file.
        revision = None if "gguf" in entry else entry.get("revision")
        return flags(model=entry["path"], revision=revision, dtype=entry.get("dtype"))

    def conversion(self, model: str) -> str:
        """Flags of the conversion of a GGUF file: the tokenizer and the number format."""
        return flags(**{key: self._models[model].get(key) for key in ("tokenizer", "revision", "dtype")})

    def model_repository(self, model: str) -> str | None:
        """The hub repository (ID or ID@REVISION) of a model; None for a local folder."""
        entry = self._models[model]
        return _at_revision(entry["path"], entry) if on_hub(entry["path"]) else None

    def tokenizer_repository(self, model: str) -> str | None:
        """The hub repository (ID or ID@REVISION) of a tokenizer; None where it has none."""
        entry = self._models[model]
        return _at_revision(entry["tokenizer"], entry) if on_hub(entry.get("tokenizer", "")) else None

    def split_repository(self, dataset: str, split: str) -> str | None:
        """The hub repository of a split; None for another source. A path overrides the hub."""
        source = self._datasets[dataset].get(split, {})
        return _at_revision(source["hub"], source) if "hub" in source and "path" not in source else None

    def hub_models(self) -> dict[str, str]:
        """Hub repositories of the selected models, by model."""
        found = {model: self.model_repository(model) for model in self._config["models"]}
        return {model: repository for model, repository in found.items() if repository}

    def hub_tokenizers(self) -> dict[str, str]:
        """Hub repositories of tokenizers of the selected models, by model."""
        found = {model: self.tokenizer_repository(model) for model in self._config["models"]}
        return {model: repository for model, repository in found.items() if repository}

    def hub_datasets(self) -> dict[tuple[str, str], str]:
        """Hub repositories of the selected datasets, by dataset and split."""
        splits = [(dataset, split) for dataset in self._config["datasets"] for split in ("train", "test")]
        found = {key: self.split_repository(*key) for key in splits}
        return {key: repository for key, repository in found.items() if repository}

    def source(self, dataset: str, split: str) -> Settings:
        """The source of a split; None for keys that it does not have. A path overrides the hub."""
        stated = self._datasets[dataset][split]
        unread = _OF_HUB if "path" in stated else ()
        return {key: None if key in unread else stated.get(key) for key in _SOURCE}

    def engine_name(self, model: str) -> str:
        """The name of the engine that samples from a model."""
        return self._models[model].get("engine", "transformers")

    def engine(self, model: str) -> str:
        """Flags of the engine that samples from a model, and of its limits."""
        own = {key: self._models[model].get(key) for key in ("engine", "tensor_parallel", "context")}
        return flags(**own, max_batch_tokens=self._config["trajectories"]["max_batch_tokens"])

    def prompt(self, stage: str, model: str, dataset: str, variant: str = "") -> Settings:
        """The style, template and blank of a stage's prompts, and flags of the chat if it is one.

        In the stage "pairs", a variant may have a template of its own.
        """
        template = self._config["prompts"][stage]["template"]
        if stage == "pairs":
            template = self._variants[variant].get("template", template)
        return {
            "style": self._datasets[dataset]["style"],
            "template": template,
            "blank": self._models[model].get("blank", "answer"),
            "chat": self._chat() if template == CHAT else "",
        }

    def checked_chat(self) -> str:
        """Flags of the chat that a model must be able to write; empty if no stage has chats."""
        stages = [*self._config["prompts"].values(), *self._variants.values()]
        return flags(template=CHAT) + " " + self._chat() if any(s.get("template") == CHAT for s in stages) else ""

    def _chat(self) -> str:
        return flags(chat_message=self._config["chat"]["message"], chat_system=self._config["chat"]["system"])

    def few_shot(self, stage: str) -> bool:
        """Whether the prompts of a stage begin with worked examples."""
        return self._config["prompts"][stage]["few_shot"]

    def sampling(self, model: str, dataset: str) -> Settings:
        """The temperature, top_p and max_new_tokens of trajectories and rollouts."""
        settings = self._config["trajectories"]
        return {
            "temperature": self._models[model].get("temperatures", {}).get(dataset, settings["temperature"]),
            "top_p": settings["top_p"],
            "max_new_tokens": self._datasets[dataset]["max_new_tokens"],
        }

    def evaluation(self, dataset: str, temperature: str | None = None) -> Settings:
        """The settings of an evaluation on test problems.

        temperature: a temperature of the study of temperatures; None for the usual evaluation.
        """
        usual, study = self._config["evaluation"], self._config["studies"]["temperatures"]
        settings: Settings = {
            "temperature": usual["temperature"] if temperature is None else temperature,
            "top_p": usual["top_p"],
            "max_new_tokens": self._datasets[dataset]["max_new_tokens"],
            "problems": (usual if temperature is None else study)["problems"],
            "samples": 1,
        }
        if temperature is not None and float(temperature) > 0:
            # Greedy samples of a problem are all the same, so only sampling takes several.
            settings["samples"] = study["samples"]
        return settings

    # --- rollouts

    def rollouts(self, dataset: str) -> Settings:
        """The method of the rollouts, their number, and how far the answers are scored.

        The authors' answers may be impossible under the model's own sampling distribution, so their
        rollouts are always independent. A whole curve does not depend on the thresholds.
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
        """The settings of the rollouts that score all rejected answers, as weights for training.

        They are stratified, except for the authors' answers (see `rollouts`).
        """
        settings = self._config["rollouts"]
        released = self.is_released(dataset)
        return {
            "method": "independent" if released else "stratified",
            "samples": settings["samples"] if released else None,
            "branches": None if released else settings["label_branches"],
            "until_critical": None,
        }

    def thresholds(self, dataset: str) -> Settings:
        """The thresholds later_below and zero_up_to of the rule for critical tokens."""
        settings = self._config["rollouts"]
        if self._rollout_method(dataset) == "stratified":
            return {key: settings["stratified"][key] for key in ("later_below", "zero_up_to")}
        return {"later_below": settings["later_below"], "zero_up_to": 0.0}

    def _rollout_method(self, dataset: str) -> str:
        return "independent" if self.is_released(dataset) else self._config["rollouts"]["method"]

    def is_released(self, dataset: str) -> bool:
        """Whether the authors' files are used instead of sampled answers."""
        return "released_pairs" in self._datasets[dataset]

    # --- contrastive estimation

    def contrast_training(self, model: str, variant: str) -> Settings:
        """The settings and the seed for training the contrastive models of a variant."""
        settings = self._config["contrast"] | self._variants[variant]
        layers = self._models[model].get("contrast_layers", settings["lora"]["layers"])
        return _training(settings | {"lora": settings["lora"] | {"layers": layers}}) | {"seed": settings["seed"]}

    def beta(self, variant: str) -> float:
        """The contrast factor beta of a variant's scores."""
        return (self._config["contrast"] | self._variants[variant])["beta"]

    def trained_variant(self, variant: str) -> str:
        """The variant whose contrastive models give a variant its scores: itself or the default."""
        return variant if any(key in self._variants[variant] for key in OWN_MODELS) else ""

    # --- methods

    def is_trained(self, method: str) -> bool:
        """Whether a method trains anything, unlike the baseline."""
        return self._methods[method]["objective"] != UNTRAINED

    def data(self, method: str) -> str:
        """The data that a method trains on, "answers" or "pairs"; also the stage of its prompts."""
        return REGISTRY[self._methods[method]["objective"]].data

    def method_prompt(self, method: str, model: str, dataset: str) -> Settings:
        """The settings of the prompts that a method trains on, see `prompt`."""
        return self.prompt(self.data(method), model, dataset, self.variant(method))

    def training(self, method: str) -> Settings:
        """The settings of a method's training, where those of its entry override `alignment`."""
        settings = _training(self._settings(method))
        return settings if self.data(method) == "answers" else settings | dict.fromkeys(_OF_ANSWERS)

    def objective(self, method: str) -> Settings:
        """The objective of a method.

        name: its name in the registry of objectives.
        constants: its constants as flags.
        weights, eos_weight: how it weighs rejected tokens; None if it does not weigh them.
        """
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
        """The kind of weights of a method's rejected tokens; None if it does not weigh them."""
        entry = self._methods[method]
        weighted = self.is_trained(method) and REGISTRY[entry["objective"]].weighted
        return entry.get("weights", "contrast") if weighted else None

    def variant(self, method: str) -> str:
        """The text that the variant of a method appends to file names; empty for the default."""
        variant = self._methods[method].get("variant")
        return f"-{variant}" if variant else ""

    def chain(self, method: str) -> list[str]:
        """The methods whose adapters make a method's model, in the order of their application."""
        return [*self.start_chain(method), *([method] if self.is_trained(method) else [])]

    def start_chain(self, method: str) -> list[str]:
        """The methods whose adapters make the model that a method starts from, see `chain`."""
        start = self.start(method)
        return [] if start == BASE else self.chain(start)

    def start(self, method: str) -> str:
        """The method that a method starts from, or "base"."""
        return self._methods[method]["start"]

    def tables(self, method: str) -> dict[str, str]:
        """The tables that a method trains on, by kind, as paths below the folder of its cell."""
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
        """The layers that contrastive models and selected methods adapt, without duplicates."""
        asked = [self.contrast_training(model, "")["lora_layers"]]
        asked += [self.training(method)["lora_layers"] for method in self._config["methods"] if self.is_trained(method)]
        return list(dict.fromkeys(layer for layers in asked for layer in layers))

    def _settings(self, method: str) -> Settings:
        return self._config["alignment"] | self._methods[method]

    # --- packages

    def packed(self, dataset: str, scored: bool) -> list[str]:
        """The files of a cell's package, without those of its methods.

        A cell with the authors' files has no samples, and it has no contrastive models if those
        files have contrastive scores (`scored`).
        """
        tables = ["positive", "negative", "pairs", "rollouts", "critical", "replacement", "contrast", "reference"]
        sampled = [] if self.is_released(dataset) else ["trajectories", "grades"]
        models = [] if scored else ["positive", "negative"]
        files = [f"{side}/{name}" for side in models for name in ("adapter_model.safetensors", "adapter_config.json")]
        return [f"{table}.parquet" for table in (*tables, *sampled)] + files


def _training(settings: Mapping[str, Any]) -> Settings:
    """The settings of a training, with those of its adapter as lora_rank, lora_alpha and so on."""
    lora = {f"lora_{key}": value for key, value in settings["lora"].items()}
    return {key: settings[key] for key in _TRAINING} | lora


def _at_revision(name: str, entry: Mapping[str, Any]) -> str:
    return f"{name}@{entry['revision']}" if entry.get("revision") else name
