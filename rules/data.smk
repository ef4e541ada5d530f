"""Problems of every dataset.

READS   local JSON lines or the hub, for registered real datasets
WRITES  <results>/data/{dataset}/{split}.parquet, <results>/data/{dataset}/shots.json
PAPER   section 4.1 (datasets); the pocket world is this project's own
COST    seconds
"""


rule prepare_dataset:
    """One split of a dataset as a table of problems."""
    input:
        source=source_files,
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
        source=lambda wildcards: recipe.source(wildcards.dataset, wildcards.split),
        style=lambda wildcards: config["dataset_registry"][wildcards.dataset]["style"],
    shell:
        f"python {SCRIPTS}/prepare_dataset.py"
        " --about dataset={wildcards.dataset} split={wildcards.split}"
        " --split {wildcards.split}"
        " --world {params.source[world]}"
        " --seed {params.source[seed]}"
        " --path {params.source[path]:q}"
        " --hub {params.source[hub]:q}"
        " --revision {params.source[revision]:q}"
        " --subset {params.source[subset]:q}"
        " --hub-split {params.source[hub_split]:q}"
        " --problems {params.source[problems]}"
        " --rows {params.source[rows]}"
        " --question {params.source[question]:q}"
        " --solution {params.source[solution]:q}"
        " --answer {params.source[answer]:q}"
        " --unanswered {params.source[unanswered]}"
        " --style {params.style}"
        " --against {input.train:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule take_shots:
    """The worked examples of few-shot prompts, from lm-eval's task definitions or from a split."""
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
        source=shots_source,
    shell:
        f"python {SCRIPTS}/take_shots.py"
        " --task {params.source[task]}"
        " --problems {input.problems:q}"
        " --count {params.source[count]}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
