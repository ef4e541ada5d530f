"""Weights and data of the hub: checked before any job is queued, fetched once, read from the cache.

READS   the hub, for entries that are no local folder; HF_ENDPOINT names a mirror; HF_TOKEN or
        `hf auth login` gives access
WRITES  <results>/hub/: answers of the hub, and checksums of fetched files; the files themselves
        are in the hub's cache (HF_HOME)
PAPER   section 4.1 (models and datasets)
COST    seconds to ask; hundreds of GB for the paper's models
"""


rule check_hub:
    """Check that every repository of the selection exists at its revision and may be read."""
    output:
        "<results>/hub/checked.json",
    log:
        "<logs>/check_hub.log",
    benchmark:
        "<benchmarks>/check_hub.tsv"
    localrule: True
    conda:
        "../envs/driver.yaml"
    params:
        code=code_version("check_hub"),
        models=sorted(set(HUB_MODELS.values())),
        tokenizers=sorted(set(HUB_TOKENIZERS.values())),
        datasets=sorted(set(HUB_DATASETS.values())),
    shell:
        f"python {SCRIPTS}/check_hub.py"
        " --models {params.models:q}"
        " --tokenizers {params.tokenizers:q}"
        " --datasets {params.datasets:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


# Runs on the driver's machine, because the nodes of a cluster often cannot reach the internet.
rule fetch_model:
    """Fetch the weights, tokenizer and configuration of a model."""
    input:
        "<results>/hub/checked.json",
    output:
        "<results>/hub/models/{model}.json",
    log:
        "<logs>/fetch_model/{model}.log",
    benchmark:
        "<benchmarks>/fetch_model/{model}.tsv"
    localrule: True
    conda:
        "../envs/driver.yaml"
    params:
        code=code_version("fetch"),
        kind="model",
        repository=lambda wildcards: recipe.model_repository(wildcards.model),
    shell:
        f"python {SCRIPTS}/fetch.py"
        " --kind {params.kind}"
        " --repository {params.repository:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


use rule fetch_model as fetch_tokenizer with:
    output:
        "<results>/hub/tokenizers/{model}.json",
    log:
        "<logs>/fetch_tokenizer/{model}.log",
    benchmark:
        "<benchmarks>/fetch_tokenizer/{model}.tsv"
    params:
        kind="tokenizer",
        repository=lambda wildcards: recipe.tokenizer_repository(wildcards.model),


use rule fetch_model as fetch_dataset with:
    output:
        "<results>/hub/datasets/{dataset}/{split}.json",
    log:
        "<logs>/fetch_dataset/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/fetch_dataset/{dataset}/{split}.tsv"
    params:
        kind="dataset",
        repository=lambda wildcards: recipe.split_repository(
            wildcards.dataset, wildcards.split
        ),
