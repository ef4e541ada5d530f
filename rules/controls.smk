"""The controls that nobody published: cDPO with weights from elsewhere, over several seeds (`snakemake controls`).

READS   what `align` reads, and rollout scores of all rejected answers
WRITES  rollout_labels.parquet in a cell, <results>/controls.csv, <figures>/controls.pdf
PAPER   has no such control: its only ablation is beta
COST    as many trainings as methods x seeds x cells of `controls`
"""


rule label_rollouts:
    """Stratified rollout scores of every rejected answer: what contrastive scores stand in for."""
    input:
        model=model_files,
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
        style=style,
        grader=GRADER,
        branches=config["controls"]["branches"],
        seed=config["rollouts"]["seed"],
    shell:
        "python scripts/score_rollouts.py"
        " {params.model}"
        " --problems {input.problems}"
        " --pairs {input.pairs}"
        " --method stratified --branches {params.branches}"
        " --style {params.style}"
        " --grader {params.grader}"
        " {params.sampling}"
        " --seed {params.seed}"
        " --output {output}"
        " 2>&1 | tee {log}"


rule plot_controls:
    """Accuracy of cDPO and its controls: means and spread over seeds."""
    input:
        control_runs("<results>/{model}/{dataset}/{method}/seed{seed}/metrics.json"),
    output:
        pdf="<figures>/controls.pdf",
        png="<figures>/controls.png",
        data="<results>/controls.csv",
    log:
        "<logs>/plot_controls.log",
    benchmark:
        "<benchmarks>/plot_controls.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("plot_controls"),
        runs=control_runs("{model}:{dataset}:{method}:{seed}"),
    shell:
        "python scripts/plot_controls.py"
        " --runs {params.runs}"
        " --metrics {input}"
        " --data {output.data}"
        " --output {output.pdf}"
        " 2>&1 | tee {log}"
