"""Kinds of critical tokens, and what contrastive estimation finds.

READS   critical, contrast, rollouts and pairs (.parquet) of a cell, the answers of its baseline,
        and its contrastive models
WRITES  critical_kinds.csv, critical_words.json, excluded.parquet in a cell;
        <results>/critical_kinds.csv, fig3.json, fig5.csv; <figures>/fig{3,5}.pdf
PAPER   v3's Tables 1 and 2; Figures 3 and 5 of v1 and v2
COST    seconds (pocket); two passes over the test split's answers (paper)
"""


rule classify_critical:
    """Critical token against first wrong token, by kind of error, and which tokens they are."""
    input:
        model=model_files,
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        critical="<results>/{model}/{dataset}/critical.parquet",
        rollouts="<results>/{model}/{dataset}/rollouts.parquet",
    output:
        kinds="<results>/{model}/{dataset}/critical_kinds.csv",
        words="<results>/{model}/{dataset}/critical_words.json",
    log:
        "<logs>/classify_critical/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/classify_critical/{model}/{dataset}.tsv"
    conda:
        "../envs/train.yaml"
    params:
        code=code_version("classify_critical"),
        model=model_flags,
    shell:
        f"python {SCRIPTS}/classify_critical.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --critical {input.critical:q}"
        " --rollouts {input.rollouts:q}"
        " --output {output.kinds:q}"
        " --words {output.words:q}"
        " 2>&1 | tee {log:q}"


use rule significance as critical_kinds with:
    input:
        paths("<results>/{model}/{dataset}/critical_kinds.csv", CELLS),
    output:
        "<results>/critical_kinds.csv",
    log:
        "<logs>/critical_kinds.log",
    benchmark:
        "<benchmarks>/critical_kinds.tsv"


rule plot_fig3:
    """Contrastive estimation along one incorrect trajectory: probabilities and scores."""
    input:
        problems="<results>/data/{dataset}/train.parquet".format(**EXAMPLE),
        contrast=f"{EXAMPLE_FOLDER}/contrast.parquet",
        critical=f"{EXAMPLE_FOLDER}/critical.parquet",
        fig1="<results>/fig1.json",
    output:
        pdf="<figures>/fig3.pdf",
        png="<figures>/fig3.png",
        data="<results>/fig3.json",
    log:
        "<logs>/plot_fig3.log",
    benchmark:
        "<benchmarks>/plot_fig3.tsv"
    conda:
        "../envs/train.yaml"
    params:
        code=code_version("plot_fig3"),
        model=recipe.model(EXAMPLE["model"]),
    shell:
        f"python {SCRIPTS}/plot_fig3.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --contrast {input.contrast:q}"
        " --critical {input.critical:q}"
        " --example {input.fig1:q}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"


rule exclude_critical:
    """The baseline's test answers, and its answers without the lowest-scored token."""
    input:
        model=model_files,
        shots=shots_of("evaluation"),
        problems="<results>/data/{dataset}/test.parquet",
        answers=f"<results>/{{model}}/{{dataset}}/baseline/seed{config['seeds'][0]}/evaluation.parquet",
        positive="<results>/{model}/{dataset}/positive/adapter_model.safetensors",
        negative="<results>/{model}/{dataset}/negative/adapter_model.safetensors",
    output:
        "<results>/{model}/{dataset}/excluded.parquet",
    log:
        "<logs>/exclude_critical/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/exclude_critical/{model}/{dataset}.tsv"
    conda:
        "../envs/train.yaml"
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("score"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        runtime=minutes_for("evaluate_method baseline", "baseline"),
    params:
        code=code_version("exclude_critical"),
        model=model_flags,
        sampling=lambda wildcards: recipe.evaluation(wildcards.dataset),
        # Always the transformers engine, which the contrastive models score with too.
        max_batch_tokens=config["trajectories"]["max_batch_tokens"],
        prompt=prompt_of("evaluation"),
        grader=GRADER,
        beta=config["contrast"]["beta"],
        seed=config["seeds"][0],
    shell:
        f"python {SCRIPTS}/exclude_critical.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --answers {input.answers:q}"
        " --positive {input.positive:q}"
        " --negative {input.negative:q}"
        " --beta {params.beta}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --grader {params.grader}"
        " --limit {params.sampling[problems]}"
        " --temperature {params.sampling[temperature]}"
        " --top-p {params.sampling[top_p]}"
        " --max-new-tokens {params.sampling[max_new_tokens]}"
        " --max-batch-tokens {params.max_batch_tokens}"
        " --seed {params.seed}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule plot_fig5:
    """Accuracy of the baseline, of its answers without the lowest-scored token, and of cDPO."""
    input:
        excluded=paths("<results>/{model}/{dataset}/excluded.parquet", CELLS),
        metrics=paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/metrics.json",
            selections.runs(
                [config["figures"]["figure5_method"]], config["seeds"][:1], CELLS
            ),
        ),
    output:
        pdf="<figures>/fig5.pdf",
        png="<figures>/fig5.png",
        data="<results>/fig5.csv",
    log:
        "<logs>/plot_fig5.log",
    benchmark:
        "<benchmarks>/plot_fig5.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("plot_fig5"),
    shell:
        f"python {SCRIPTS}/plot_fig5.py"
        " --excluded {input.excluded:q}"
        " --metrics {input.metrics:q}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"
