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
        shots=shots_for("answers"),
        problems="<results>/data/{dataset}/train.parquet",
        answers="<results>/{model}/{dataset}/{side}.parquet",
    output:
        adapter="<results>/{model}/{dataset}/{side}{variant}/adapter_model.safetensors",
        config="<results>/{model}/{dataset}/{side}{variant}/adapter_config.json",
    log:
        "<logs>/train_contrast/{model}/{dataset}/{side}{variant}.log",
    benchmark:
        "<benchmarks>/train_contrast/{model}/{dataset}/{side}{variant}.tsv"
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
        prompt=prompt_for("answers"),
        seed=lambda wildcards: contrast_settings(wildcards)["seed"],
    shell:
        f"{{params.launcher}} {SCRIPTS}/train_contrast.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --answers {input.answers:q}"
        " {params.prompt}"
        " {params.training}"
        " --seed {params.seed}"
        " --output {output.adapter:q}"
        " 2>&1 | tee {log:q}"


if SCORED:

    rule import_scores:
        """The authors' contrastive scores instead of those of models of our own."""
        input:
            files=released_files,
            model=model_files,
            shots=shots_for("pairs"),
            problems="<results>/data/{dataset}/train.parquet",
            pairs="<results>/{model}/{dataset}/pairs.parquet",
        output:
            "<results>/{model}/{dataset}/contrast.parquet",
        log:
            "<logs>/import_scores/{model}/{dataset}.log",
        benchmark:
            "<benchmarks>/import_scores/{model}/{dataset}.tsv"
        wildcard_constraints:
            dataset="|".join(SCORED),
        conda:
            "../envs/train.yaml"
        params:
            code=code_version("import_scores"),
            model=model_flags,
            folder=lambda wildcards: released_folder(**wildcards),
            prompt=prompt_for("pairs"),
        shell:
            f"python {SCRIPTS}/import_scores.py"
            " {params.model}"
            " --folder {params.folder:q}"
            " --problems {input.problems:q}"
            " --pairs {input.pairs:q}"
            " {params.prompt}"
            " --output {output:q}"
            " 2>&1 | tee {log:q}"

    ruleorder: import_scores > score_contrast


rule score_contrast:
    """Contrastive scores s_t of the rejected answers' tokens."""
    input:
        model=model_files,
        shots=shots_for("pairs"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        positive=contrast_adapter("positive"),
        negative=contrast_adapter("negative"),
    output:
        "<results>/{model}/{dataset}/contrast{variant}.parquet",
    log:
        "<logs>/score_contrast/{model}/{dataset}{variant}.log",
    benchmark:
        "<benchmarks>/score_contrast/{model}/{dataset}/scores{variant}.tsv"
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
        beta=lambda wildcards: contrast_settings(wildcards)["beta"],
        prompt=prompt_for("pairs"),
        max_batch_tokens=config["trajectories"]["max_batch_tokens"],
    shell:
        f"python {SCRIPTS}/score_contrast.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --positive {input.positive:q}"
        " --negative {input.negative:q}"
        " --beta {params.beta}"
        " {params.prompt}"
        " --max-batch-tokens {params.max_batch_tokens}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
