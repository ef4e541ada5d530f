"""Rollout scores, critical tokens, and the test that replaces them.

READS   pairs.parquet (the rejected answers are examined), the base model
WRITES  rollouts, critical, replacement and rollout_labels (.parquet) in <results>/{model}/{dataset}/
PAPER   section 2 (critical tokens, Figure 2)
COST    rollouts are the expensive stage: a minute (pocket), many GPU hours (paper)
"""


rule score_rollouts:
    """How many continuations from each token of an incorrect trajectory are correct."""
    input:
        model=model_files,
        shots=shots_for("sampling"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
    output:
        part("<results>/{model}/{dataset}/rollouts.parquet", "rollouts"),
    log:
        part("<logs>/score_rollouts/{model}/{dataset}.log", "rollouts"),
    benchmark:
        part("<benchmarks>/score_rollouts/{model}/{dataset}.tsv", "rollouts")
    conda:
        engine_environment
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("sample"),
        runtime=minutes_for("score_rollouts"),
    params:
        code=code_version("score_rollouts"),
        model=model_flags,
        sampling=sampling_flags,
        prompt=prompt_for("sampling"),
        grader=GRADER,
        trajectories=flags(trajectories=config["rollouts"]["trajectories"]),
        method=rollout_flags,
        shard=shard_flags,
        seed=config["rollouts"]["seed"],
    shell:
        f"python {SCRIPTS}/score_rollouts.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " {params.trajectories}"
        " {params.shard}"
        " {params.method}"
        " {params.prompt}"
        " --grader {params.grader}"
        " {params.sampling}"
        " --seed {params.seed}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule find_critical:
    """The critical token of each examined trajectory, and its first wrong token where the truth is known."""
    input:
        model=model_files,
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        rollouts="<results>/{model}/{dataset}/rollouts.parquet",
        annotations=annotation_files,
    output:
        "<results>/{model}/{dataset}/critical.parquet",
    log:
        "<logs>/find_critical/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/find_critical/{model}/{dataset}.tsv"
    conda:
        "../envs/train.yaml"
    params:
        code=code_version("find_critical"),
        model=model_flags,
        thresholds=lambda wildcards: flags(**thresholds(wildcards)),
        annotations=lambda wildcards, input: flags(annotations=input.annotations or None),
    shell:
        f"python {SCRIPTS}/find_critical.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --rollouts {input.rollouts:q}"
        " {params.thresholds}"
        " {params.annotations}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule replace_critical:
    """Continue from the critical token kept, and from other tokens in its place."""
    input:
        model=model_files,
        shots=shots_for("sampling"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        critical="<results>/{model}/{dataset}/critical.parquet",
    output:
        "<results>/{model}/{dataset}/replacement.parquet",
    log:
        "<logs>/replace_critical/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/replace_critical/{model}/{dataset}.tsv"
    conda:
        engine_environment
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("sample"),
        runtime=minutes_for("replace_critical"),
    params:
        code=code_version("replace_critical"),
        model=model_flags,
        sampling=sampling_flags,
        prompt=prompt_for("sampling"),
        grader=GRADER,
        draws=config["rollouts"]["replacements"],
        replacement=config["rollouts"]["replacement"],
        seed=config["rollouts"]["seed"],
    shell:
        f"python {SCRIPTS}/replace_critical.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --critical {input.critical:q}"
        " --draws {params.draws}"
        " --replacement {params.replacement}"
        " {params.prompt}"
        " --grader {params.grader}"
        " {params.sampling}"
        " --seed {params.seed}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule label_rollouts:
    """Stratified rollout scores of every rejected answer: what contrastive scores stand in for."""
    input:
        model=model_files,
        shots=shots_for("sampling"),
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
    output:
        "<results>/{model}/{dataset}/rollout_labels.parquet",
    log:
        "<logs>/label_rollouts/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/label_rollouts/{model}/{dataset}.tsv"
    conda:
        engine_environment
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("sample"),
        runtime=minutes_for("label_rollouts", "cdpo_rollouts"),
    params:
        code=code_version("score_rollouts"),
        model=model_flags,
        sampling=sampling_flags,
        prompt=prompt_for("sampling"),
        grader=GRADER,
        method=label_flags,
        seed=config["rollouts"]["seed"],
    shell:
        f"python {SCRIPTS}/score_rollouts.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " {params.method}"
        " {params.prompt}"
        " --grader {params.grader}"
        " {params.sampling}"
        " --seed {params.seed}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
