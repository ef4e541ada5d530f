"""Problems of every dataset, and the pocket base models.

READS   local JSON lines or the hub, for registered real datasets
WRITES  <results>/data/{dataset}/{split}.parquet, <results>/pretrained/{name}/
PAPER   section 4.1 (datasets); the pocket world is this project's own
COST    seconds; pretraining takes an hour or two of two cores
"""


rule prepare_dataset:
    """One split of a dataset as a table of problems."""
    input:
        source_files,
        train=train_problems,
    output:
        "<results>/data/{dataset}/{split}.parquet",
    log:
        "<logs>/prepare_dataset/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/prepare_dataset/{dataset}/{split}.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("prepare_dataset"),
        source=source_flags,
        style=style,
        against=lambda wildcards, input: flags(against=input.train or None),
    shell:
        f"python {SCRIPTS}/prepare_dataset.py"
        " --split {wildcards.split}"
        " {params.source}"
        " --style {params.style}"
        " {params.against}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule take_shots:
    """The worked examples of few-shot prompts, from lm-eval's task definitions or from a split of the dataset."""
    input:
        problems=shots_problems,
    output:
        "<results>/data/{dataset}/shots.json",
    log:
        "<logs>/take_shots/{dataset}.log",
    benchmark:
        "<benchmarks>/take_shots/{dataset}.tsv"
    conda:
        "../envs/shots.yaml"
    params:
        code=code_version("take_shots"),
        source=shots_flags,
    shell:
        f"python {SCRIPTS}/take_shots.py" " {params.source}" " --output {output:q}" " 2>&1 | tee {log:q}"


rule pretrain:
    """A pocket base model from nothing: tokenizer, corpus with known misreadings, training."""
    output:
        weights="<results>/pretrained/{name}/model.safetensors",
        tokenizer="<results>/pretrained/{name}/tokenizer.json",
        recipe="<results>/pretrained/{name}/recipe.json",
    log:
        "<logs>/pretrain/{name}.log",
    benchmark:
        "<benchmarks>/pretrain/{name}.tsv"
    wildcard_constraints:
        name="|".join(config["pretraining"]["shapes"]),
    conda:
        "../envs/train.yaml"
    threads: 2
    params:
        code=code_version("pretrain"),
        settings=pretraining_flags,
    shell:
        f"python {SCRIPTS}/pretrain.py" " {params.settings}" " --weights {output.weights:q}" " 2>&1 | tee {log:q}"


rule measure_base:
    """The card of a pocket base model: accuracy, pass@64 and the share of problems with right and wrong samples."""
    input:
        weights="<results>/pretrained/{name}/model.safetensors",
        recipe="<results>/pretrained/{name}/recipe.json",
        train=expand("<results>/data/{dataset}/train.parquet", dataset=POCKET_DATASETS),
        test=expand("<results>/data/{dataset}/test.parquet", dataset=POCKET_DATASETS),
    output:
        "<results>/pretrained/{name}/card.json",
    log:
        "<logs>/measure_base/{name}.log",
    benchmark:
        "<benchmarks>/measure_base/{name}.tsv"
    wildcard_constraints:
        name="|".join(config["pretraining"]["shapes"]),
    conda:
        "../envs/train.yaml"
    threads: 2
    params:
        code=code_version("measure_base"),
        settings=card_flags,
    shell:
        f"python {SCRIPTS}/measure_base.py"
        " --weights {input.weights:q}"
        " --recipe {input.recipe:q}"
        " --train {input.train:q}"
        " --test {input.test:q}"
        " {params.settings}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
