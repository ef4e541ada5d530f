"""Contrastive estimation: the positive and the negative model, and the scores of the rejected answers' tokens.

READS   positive, negative and pairs (.parquet) of a cell, the base model
WRITES  positive/ and negative/ (adapters), contrast.parquet in <results>/{model}/{dataset}/
PAPER   section 3 (contrastive estimation), section 4.1 (one epoch of LoRA)
COST    seconds (pocket), a GPU hour (paper)
"""


rule train_contrast:
    """The positive or the negative model."""
    input:
        model=model_files,
        problems="<results>/data/{dataset}/train.parquet",
        answers="<results>/{model}/{dataset}/{side}.parquet",
    output:
        adapter="<results>/{model}/{dataset}/{side}/adapter_model.safetensors",
        config="<results>/{model}/{dataset}/{side}/adapter_config.json",
    log:
        "<logs>/train_contrast/{model}/{dataset}/{side}.log",
    benchmark:
        "<benchmarks>/train_contrast/{model}/{dataset}/{side}.tsv"
    conda:
        "../envs/train.yaml"
    resources:
        gpu=gpus_for("train"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("train"),
        runtime=minutes_for("train_contrast"),
    params:
        code=code_version("train_contrast"),
        launcher=launcher,
        model=model_flags,
        training=contrast_flags,
        style=style,
        seed=config["contrast"]["seed"],
    shell:
        "{params.launcher} scripts/train_contrast.py"
        " {params.model}"
        " --problems {input.problems}"
        " --answers {input.answers}"
        " --style {params.style}"
        " {params.training}"
        " --seed {params.seed}"
        " --output {output.adapter}"
        " 2>&1 | tee {log}"


rule score_contrast:
    """Contrastive scores s_t of the rejected answers' tokens."""
    input:
        model=model_files,
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        positive="<results>/{model}/{dataset}/positive/adapter_model.safetensors",
        negative="<results>/{model}/{dataset}/negative/adapter_model.safetensors",
    output:
        "<results>/{model}/{dataset}/contrast.parquet",
    log:
        "<logs>/score_contrast/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/score_contrast/{model}/{dataset}.tsv"
    conda:
        "../envs/train.yaml"
    resources:
        gpu=gpus_for("score"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("score"),
        runtime=minutes_for("score_contrast"),
    params:
        code=code_version("score_contrast"),
        model=model_flags,
        beta=config["contrast"]["beta"],
        style=style,
        max_batch_tokens=config["trajectories"]["max_batch_tokens"],
    shell:
        "python scripts/score_contrast.py"
        " {params.model}"
        " --problems {input.problems}"
        " --pairs {input.pairs}"
        " --positive {input.positive}"
        " --negative {input.negative}"
        " --beta {params.beta}"
        " --style {params.style}"
        " --max-batch-tokens {params.max_batch_tokens}"
        " --output {output}"
        " 2>&1 | tee {log}"
