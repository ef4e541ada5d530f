"""Rollout scores, critical tokens, and the test that replaces critical tokens.

READS   pairs.parquet (the rejected answers are examined), the base model
WRITES  rollouts, critical, replacement and rollout_labels (.parquet) of a cell
PAPER   section 2 (critical tokens, Figure 2)
COST    rollouts are the expensive stage: a minute (pocket), many GPU hours (paper)
"""


rule score_rollouts:
    """How many continuations of each prefix of an incorrect trajectory are correct."""
    input:
        model=model_files,
        shots=shots_of("sampling"),
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
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        python=engine_python,
        runtime=minutes_for("score_rollouts"),
    params:
        code=code_version("score_rollouts"),
        model=model_flags,
        engine=engine_flags,
        sampling=lambda wildcards: recipe.sampling(wildcards.model, wildcards.dataset),
        prompt=prompt_of("sampling"),
        grader=GRADER,
        trajectories=config["rollouts"]["trajectories"],
        rollouts=lambda wildcards: recipe.rollouts(wildcards.dataset),
        shard=lambda wildcards: wildcards.get("shard", WHOLE),
        seed=config["rollouts"]["seed"],
    shell:
        f"{{resources.python:q}} {SCRIPTS}/score_rollouts.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --trajectories {params.trajectories}"
        " --shard {params.shard}"
        " --method {params.rollouts[method]}"
        " --rollouts {params.rollouts[samples]}"
        " --branches {params.rollouts[branches]}"
        " --until-critical {params.rollouts[until_critical]}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --grader {params.grader}"
        " --temperature {params.sampling[temperature]}"
        " --top-p {params.sampling[top_p]}"
        " --max-new-tokens {params.sampling[max_new_tokens]}"
        " {params.engine}"
        " --seed {params.seed}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


use rule score_rollouts as label_rollouts with:
    # Stratified scores of every rejected answer, for token weights. Contrastive scores approximate
    # them.
    output:
        "<results>/{model}/{dataset}/rollout_labels.parquet",
    log:
        "<logs>/label_rollouts/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/label_rollouts/{model}/{dataset}.tsv"
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        python=engine_python,
        runtime=minutes_for("label_rollouts", "cdpo_rollouts"),
    params:
        trajectories=None,
        rollouts=lambda wildcards: recipe.labels(wildcards.dataset),
        shard=WHOLE,


rule find_critical:
    """The critical token of each examined trajectory, and its first wrong token if known."""
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
        thresholds=lambda wildcards: recipe.thresholds(wildcards.dataset),
    shell:
        f"python {SCRIPTS}/find_critical.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --rollouts {input.rollouts:q}"
        " --annotations {input.annotations:q}"
        " --later-below {params.thresholds[later_below]}"
        " --zero-up-to {params.thresholds[zero_up_to]}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule replace_critical:
    """Continue after the kept critical token, and after other tokens in its place."""
    input:
        model=model_files,
        shots=shots_of("sampling"),
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
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        python=engine_python,
        runtime=minutes_for("replace_critical"),
    params:
        code=code_version("replace_critical"),
        model=model_flags,
        engine=engine_flags,
        sampling=lambda wildcards: recipe.sampling(wildcards.model, wildcards.dataset),
        prompt=prompt_of("sampling"),
        grader=GRADER,
        draws=config["rollouts"]["replacement_draws"],
        distribution=config["rollouts"]["replacement_distribution"],
        seed=config["rollouts"]["seed"],
    shell:
        f"{{resources.python:q}} {SCRIPTS}/replace_critical.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --critical {input.critical:q}"
        " --draws {params.draws}"
        " --distribution {params.distribution}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --grader {params.grader}"
        " --temperature {params.sampling[temperature]}"
        " --top-p {params.sampling[top_p]}"
        " --max-new-tokens {params.sampling[max_new_tokens]}"
        " {params.engine}"
        " --seed {params.seed}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
