"""Contrastive estimation: its two models, and the scores of the rejected answers' tokens.

READS   positive, negative and pairs (.parquet) of a cell, the base model
WRITES  positive/ and negative/ (adapters), contrast.parquet in <results>/{model}/{dataset}/
PAPER   section 3 (contrastive estimation), section 4.1 (one epoch of LoRA)
COST    seconds (pocket), a GPU hour (paper)
"""


rule train_contrast:
    """The positive or the negative model."""
    input:
        model=model_files,
        shots=shots_of("answers"),
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
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("train"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        runtime=minutes_for("train_contrast"),
    params:
        code=code_version("train_contrast"),
        launcher=launcher,
        model=model_flags,
        training=lambda wildcards: recipe.contrast_training(
            wildcards.model, wildcards.variant
        ),
        prompt=prompt_of("answers"),
    shell:
        f"{{params.launcher}} {SCRIPTS}/train_contrast.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --answers {input.answers:q}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --learning-rate {params.training[learning_rate]}"
        " --epochs {params.training[epochs]}"
        " --batch-size {params.training[batch_size]}"
        " --accumulation {params.training[accumulation]}"
        " --schedule {params.training[schedule]}"
        " --warmup-share {params.training[warmup_share]}"
        " --weight-decay {params.training[weight_decay]}"
        " --gradient-checkpointing {params.training[gradient_checkpointing]}"
        " --packing {params.training[packing]}"
        " --eos-trained {params.training[eos_trained]}"
        " --held-out {params.training[held_out]}"
        " --checkpoint-updates {params.training[checkpoint_updates]}"
        " --lora-rank {params.training[lora_rank]}"
        " --lora-alpha {params.training[lora_alpha]}"
        " --lora-dropout {params.training[lora_dropout]}"
        " --lora-layers {params.training[lora_layers]:q}"
        " --seed {params.training[seed]}"
        " --output {output.adapter:q}"
        " 2>&1 | tee {log:q}"


rule score_contrast:
    """Contrastive scores s_t of the rejected answers' tokens."""
    input:
        model=model_files,
        shots=shots_of("pairs"),
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
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("score"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        runtime=minutes_for("score_contrast"),
    params:
        code=code_version("score_contrast"),
        model=model_flags,
        beta=lambda wildcards: recipe.beta(wildcards.variant),
        prompt=prompt_of("pairs"),
        max_batch_tokens=config["trajectories"]["max_batch_tokens"],
        packing=config["contrast"]["packing"],
    shell:
        f"python {SCRIPTS}/score_contrast.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --positive {input.positive:q}"
        " --negative {input.negative:q}"
        " --beta {params.beta}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --max-batch-tokens {params.max_batch_tokens}"
        " --packing {params.packing}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule import_scores:
    """The authors' contrastive scores instead of those of models of our own."""
    input:
        files=released_files,
        model=model_files,
        shots=shots_of("pairs"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
    output:
        "<results>/{model}/{dataset}/contrast.parquet",
    log:
        "<logs>/import_scores/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/import_scores/{model}/{dataset}.tsv"
    wildcard_constraints:
        dataset=any_of(SCORED),
    conda:
        "../envs/train.yaml"
    params:
        code=code_version("import_scores"),
        model=model_flags,
        folder=released_folder,
        prompt=prompt_of("pairs"),
    shell:
        f"python {SCRIPTS}/import_scores.py"
        " {params.model}"
        " --folder {params.folder:q}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


ruleorder: import_scores > score_contrast
