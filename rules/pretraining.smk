"""Helpers only: what the pocket models are pretrained on, and how they are measured."""

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
