"""The methods of Table 1.

READS   positive, pairs and contrast (.parquet) of a cell, the base model, the adapter that a method starts from
WRITES  reference.parquet beside a starting model; adapter and history.csv in <results>/{model}/{dataset}/{method}/seed{seed}/
PAPER   section 3.3 (cDPO), section 4.1 (baselines and hyper-parameters)
COST    half a minute (pocket), GPU hours (paper)
"""


rule score_base_reference:
    """Log-probabilities of the pairs' tokens under the base model."""
    input:
        model=model_files,
        shots=shots_for("pairs"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
    output:
        "<results>/{model}/{dataset}/reference{variant}.parquet",
    log:
        "<logs>/score_base_reference/{model}/{dataset}{variant}.log",
    benchmark:
        "<benchmarks>/score_base_reference/{model}/{dataset}/scores{variant}.tsv"
    conda:
        "../envs/train.yaml"
    resources:
        gpu=gpus_for("score"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("score"),
        runtime=minutes_for("score_base_reference"),
    params:
        code=code_version("score_reference"),
        model=model_flags,
        prompt=prompt_for("pairs"),
        max_batch_tokens=config["trajectories"]["max_batch_tokens"],
    shell:
        f"python {SCRIPTS}/score_reference.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " {params.prompt}"
        " --max-batch-tokens {params.max_batch_tokens}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule score_reference:
    """Log-probabilities of the pairs' tokens under the model of a method that others start from."""
    input:
        model=model_files,
        shots=shots_for("pairs"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        adapters=own_adapters,
    output:
        "<results>/{model}/{dataset}/{method}/seed{seed}/reference{variant}.parquet",
    log:
        "<logs>/score_reference/{model}/{dataset}/{method}/seed{seed}{variant}.log",
    benchmark:
        "<benchmarks>/score_reference/{model}/{dataset}/{method}/seed{seed}{variant}.tsv"
    conda:
        "../envs/train.yaml"
    resources:
        gpu=gpus_for("score"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("score"),
        runtime=minutes_for("score_base_reference"),
    params:
        code=code_version("score_reference"),
        model=model_flags,
        prompt=prompt_for("pairs"),
        max_batch_tokens=config["trajectories"]["max_batch_tokens"],
    shell:
        f"python {SCRIPTS}/score_reference.py"
        " {params.model}"
        " --adapters {input.adapters:q}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " {params.prompt}"
        " --max-batch-tokens {params.max_batch_tokens}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule align:
    """Train one method with one seed."""
    input:
        unpack(training_data),
        model=model_files,
        shots=training_shots,
        problems="<results>/data/{dataset}/train.parquet",
        adapters=start_adapters,
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
    resources:
        gpu=gpus_for("train"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("train"),
        runtime=minutes_for("align {method}"),
    params:
        code=code_version("align"),
        launcher=launcher,
        model=model_flags,
        method=method_flags,
        data=training_data_flags,
        prompt=training_prompt,
    shell:
        f"{{params.launcher}} {SCRIPTS}/align.py"
        " {params.model}"
        " --adapters {input.adapters:q}"
        " {params.method}"
        " --problems {input.problems:q}"
        " {params.data}"
        " {params.prompt}"
        " --seed {wildcards.seed}"
        " --output {output.adapter:q}"
        " --history {output.history:q}"
        " 2>&1 | tee {log:q}"
