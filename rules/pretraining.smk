"""The pocket base models, trained only on demand: their weights are in data/models.

READS   nothing but the config
WRITES  <results>/pretrained/{name}/
PAPER   nothing: the pocket world is this project's own
COST    an hour or two on two cores
"""

POCKET_DATASETS = ["pocket-gsm", "pocket-math"]
PRETRAINING = config["pretraining"]


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
        name=any_of(PRETRAINING["shapes"]),
    conda:
        "../envs/train.yaml"
    threads: 2
    params:
        code=code_version("pretrain"),
        shape=lambda wildcards: PRETRAINING["shapes"][wildcards.name],
        documents=lambda wildcards: PRETRAINING["documents"][wildcards.name],
        learning_rate=lambda wildcards: PRETRAINING["learning_rate"][wildcards.name],
        prompt_weight=lambda wildcards: PRETRAINING["prompt_weight"][wildcards.name],
        vocabulary=PRETRAINING["vocabulary"],
        batch_size=PRETRAINING["batch_size"],
        seed=PRETRAINING["seed"],
    shell:
        f"python {SCRIPTS}/pretrain.py"
        " --layers {params.shape[layers]}"
        " --width {params.shape[width]}"
        " --heads {params.shape[heads]}"
        " --mlp {params.shape[mlp]}"
        " --documents {params.documents}"
        " --learning-rate {params.learning_rate}"
        " --prompt-weight {params.prompt_weight}"
        " --vocabulary {params.vocabulary}"
        " --batch-size {params.batch_size}"
        " --seed {params.seed}"
        " --weights {output.weights:q}"
        " 2>&1 | tee {log:q}"


rule measure_base:
    """The card of a pocket base model: accuracy, pass@64, problems with right and wrong samples."""
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
        name=any_of(PRETRAINING["shapes"]),
    conda:
        "../envs/train.yaml"
    threads: 2
    params:
        code=code_version("measure_base"),
        datasets=POCKET_DATASETS,
        styles=[
            config["dataset_registry"][dataset]["style"] for dataset in POCKET_DATASETS
        ],
        max_new_tokens=max(
            config["dataset_registry"][dataset]["max_new_tokens"]
            for dataset in POCKET_DATASETS
        ),
        problems=PRETRAINING["measured_problems"],
        temperature=config["trajectories"]["temperature"],
        top_p=config["trajectories"]["top_p"],
        max_batch_tokens=config["trajectories"]["max_batch_tokens"],
        seed=config["trajectories"]["seed"],
    shell:
        f"python {SCRIPTS}/measure_base.py"
        " --weights {input.weights:q}"
        " --recipe {input.recipe:q}"
        " --train {input.train:q}"
        " --test {input.test:q}"
        " --datasets {params.datasets}"
        " --styles {params.styles}"
        " --max-new-tokens {params.max_new_tokens}"
        " --sampled-problems {params.problems}"
        " --temperature {params.temperature}"
        " --top-p {params.top_p}"
        " --max-batch-tokens {params.max_batch_tokens}"
        " --seed {params.seed}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
