"""The methods of Table 1.

READS   positive, pairs, contrast and rollout_labels (.parquet) of a cell, the base model, and the
        adapters of the methods that a method starts from
WRITES  reference.parquet beside a starting model;
        adapter and history.csv in <results>/{model}/{dataset}/{method}/seed{seed}/
PAPER   section 3.3 (cDPO), section 4.1 (baselines and hyper-parameters)
COST    half a minute (pocket), GPU hours (paper)
"""


rule score_base_reference:
    """Log-probabilities of the pairs' tokens under the base model."""
    input:
        model=model_files,
        shots=shots_of("pairs"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        adapters=[],
    output:
        "<results>/{model}/{dataset}/reference{variant}.parquet",
    log:
        "<logs>/score_base_reference/{model}/{dataset}{variant}.log",
    benchmark:
        "<benchmarks>/score_base_reference/{model}/{dataset}/scores{variant}.tsv"
    conda:
        "../envs/train.yaml"
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("score"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        runtime=minutes_for("score_base_reference"),
    params:
        code=code_version("score_reference"),
        model=model_flags,
        prompt=prompt_of("pairs"),
        max_batch_tokens=config["trajectories"]["max_batch_tokens"],
        packing=config["alignment"]["packing"],
    shell:
        f"python {SCRIPTS}/score_reference.py"
        " {params.model}"
        " --adapters {input.adapters:q}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --max-batch-tokens {params.max_batch_tokens}"
        " --packing {params.packing}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


use rule score_base_reference as score_reference with:
    # The same log-probabilities, under the model of a method that other methods start from.
    input:
        model=model_files,
        shots=shots_of("pairs"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        adapters=adapters_of(recipe.chain),
    output:
        "<results>/{model}/{dataset}/{method}/seed{seed}/reference{variant}.parquet",
    log:
        "<logs>/score_reference/{model}/{dataset}/{method}/seed{seed}{variant}.log",
    benchmark:
        "<benchmarks>/score_reference/{model}/{dataset}/{method}/seed{seed}{variant}.tsv"


rule align:
    """Train one method with one seed."""
    input:
        model=model_files,
        problems="<results>/data/{dataset}/train.parquet",
        adapters=adapters_of(recipe.start_chain),
        shots=lambda wildcards: shots_of(recipe.data(wildcards.method))(wildcards),
        answers=training_table("answers"),
        pairs=training_table("pairs"),
        reference=training_table("reference"),
        contrast=training_table("contrast"),
        rollouts=training_table("rollouts"),
    output:
        adapter="<results>/{model}/{dataset}/{method}/seed{seed}/adapter_model.safetensors",
        config="<results>/{model}/{dataset}/{method}/seed{seed}/adapter_config.json",
        history="<results>/{model}/{dataset}/{method}/seed{seed}/history.csv",
    log:
        "<logs>/align/{model}/{dataset}/{method}/seed{seed}.log",
    benchmark:
        "<benchmarks>/align/{model}/{dataset}/{method}/seed{seed}.tsv"
    conda:
        "../envs/train.yaml"
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("train"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        runtime=minutes_for("align {method}"),
    params:
        code=code_version("align"),
        launcher=launcher,
        model=model_flags,
        objective=lambda wildcards: recipe.objective(wildcards.method),
        training=lambda wildcards: recipe.training(wildcards.method),
        prompt=lambda wildcards: recipe.method_prompt(
            wildcards.method, wildcards.model, wildcards.dataset
        ),
    shell:
        f"{{params.launcher}} {SCRIPTS}/align.py"
        " {params.model}"
        " --about model={wildcards.model} dataset={wildcards.dataset} method={wildcards.method} seed={wildcards.seed}"
        " --adapters {input.adapters:q}"
        " --objective {params.objective[name]}"
        " {params.objective[constants]}"
        " --weights {params.objective[weights]}"
        " --eos-weight {params.objective[eos_weight]}"
        " --problems {input.problems:q}"
        " --answers {input.answers:q}"
        " --pairs {input.pairs:q}"
        " --reference {input.reference:q}"
        " --contrast {input.contrast:q}"
        " --rollouts {input.rollouts:q}"
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
        " --seed {wildcards.seed}"
        " --output {output.adapter:q}"
        " --history {output.history:q}"
        " 2>&1 | tee {log:q}"
