"""Named targets: stop at any stage by name, e.g. `snakemake rollouts`.

READS   nothing
WRITES  nothing
"""


localrules:
    fetched,
    problems,
    trajectories,
    rollouts,
    contrast,
    adapters,
    evaluations,
    studies,
    pretrained,
    tuning,


rule fetched:
    """All models, tokenizers and datasets that the selection needs from the hub."""
    input:
        expand("<results>/hub/models/{model}.json", model=HUB_MODELS),
        expand("<results>/hub/tokenizers/{model}.json", model=HUB_TOKENIZERS),
        [
            f"<results>/hub/datasets/{dataset}/{split}.json"
            for dataset, split in HUB_DATASETS
        ],


rule problems:
    """The problems of the selected datasets."""
    input:
        expand(
            "<results>/data/{dataset}/{split}.parquet",
            dataset=config["datasets"],
            split=["train", "test"],
        ),


rule trajectories:
    """Sampled, graded and selected trajectories."""
    input:
        paths("<results>/{model}/{dataset}/pairs.parquet", CELLS),


rule rollouts:
    """Rollout scores, critical tokens and the replacement test."""
    input:
        paths("<results>/{model}/{dataset}/replacement.parquet", CELLS),


rule contrast:
    """The positive and negative models and the contrastive scores."""
    input:
        paths("<results>/{model}/{dataset}/contrast.parquet", CELLS),


rule adapters:
    """The adapters of all methods and seeds."""
    input:
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/adapter_model.safetensors",
            TRAINED,
        ),


rule evaluations:
    """The metrics of all methods and seeds."""
    input:
        paths("<results>/{model}/{dataset}/{method}/seed{seed}/metrics.json", RUNS),


rule tuning:
    """The search over learning rates, for the methods and rates of `tuning`."""
    input:
        "<results>/tuning.csv",


rule pretrained:
    """The pocket base models, pretrained anew: an hour or two on two cores.

    Their weights are in data/models.
    """
    input:
        expand(
            "<results>/pretrained/{name}/card.json",
            name=sorted(config["pretraining"]["shapes"]),
        ),


rule studies:
    """All studies of `studies`: their tables and figures."""
    input:
        expand(
            "<results>/studies/{study}.csv",
            study=[
                *config["studies"]["comparisons"],
                "temperatures",
                "agreement",
                "replacement",
            ],
        ),
        # Other thresholds need counts of whole curves.
        ["<results>/studies/critical_rule.csv"] if COUNTED else [],
