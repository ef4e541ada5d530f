"""Studies: methods over several seeds, temperatures of evaluation, other rules for the critical token (`snakemake studies`).

READS   graded evaluations, rollouts and critical (.parquet) of cells
WRITES  tables in <results>/studies/, figures in <figures>/studies/
PAPER   ICML's Table 4 (beta) and Table 5 (temperature); Table 1 over seeds, controls and switches are this project's own
COST    as many trainings as methods x seeds x cells of a study
"""


rule summarize_study:
    """Accuracy of a study's methods and their gaps to one of them: means over seeds, intervals, a figure."""
    input:
        lambda wildcards: study_runs(
            wildcards.study, "<results>/{model}/{dataset}/{method}/seed{seed}/evaluation_grades.parquet"
        ),
    output:
        pdf="<figures>/studies/{study}.pdf",
        png="<figures>/studies/{study}.png",
        data="<results>/studies/{study}.csv",
    log:
        "<logs>/summarize_study/{study}.log",
    benchmark:
        "<benchmarks>/summarize_study/{study}.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("summarize_study"),
        runs=lambda wildcards: study_runs(wildcards.study, "{model}:{dataset}:{method}:{seed}"),
        against=lambda wildcards: config["studies"][wildcards.study]["against"],
    shell:
        f"python {SCRIPTS}/summarize_study.py"
        " --runs {params.runs}"
        " --grades {input:q}"
        " --against {params.against}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"


use rule evaluate_method as evaluate_at_temperature with:
    output:
        answers="<results>/{model}/{dataset}/{method}/seed{seed}/temperature{temperature}/evaluation.parquet",
        grades="<results>/{model}/{dataset}/{method}/seed{seed}/temperature{temperature}/evaluation_grades.parquet",
        metrics="<results>/{model}/{dataset}/{method}/seed{seed}/temperature{temperature}/metrics.json",
    log:
        "<logs>/evaluate_at_temperature/{model}/{dataset}/{method}/seed{seed}-{temperature}.log",
    benchmark:
        "<benchmarks>/evaluate_at_temperature/{model}/{dataset}/{method}/seed{seed}-{temperature}.tsv"
    params:
        code=code_version("evaluate_method"),
        model=model_flags,
        evaluation=temperature_flags,
        prompt=prompt_for("evaluation"),
        grader=GRADER,


rule summarize_temperatures:
    """Accuracy over the temperature of evaluation, for every method of `temperatures`."""
    input:
        temperature_runs("<results>/{model}/{dataset}/{method}/seed{seed}/temperature{temperature}/evaluation_grades.parquet"),
    output:
        pdf="<figures>/studies/temperatures.pdf",
        png="<figures>/studies/temperatures.png",
        data="<results>/studies/temperatures.csv",
    log:
        "<logs>/summarize_temperatures.log",
    benchmark:
        "<benchmarks>/summarize_temperatures.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("summarize_temperatures"),
        runs=temperature_runs("{model}:{dataset}:{method}:{seed}:{temperature}"),
    shell:
        f"python {SCRIPTS}/summarize_temperatures.py"
        " --runs {params.runs}"
        " --grades {input:q}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"


use rule score_rollouts as score_rollouts_again with:
    output:
        "<results>/{model}/{dataset}/rollouts/seed{seed}.parquet",
    log:
        "<logs>/score_rollouts_again/{model}/{dataset}/seed{seed}.log",
    benchmark:
        "<benchmarks>/score_rollouts_again/{model}/{dataset}/seed{seed}.tsv"
    params:
        code=code_version("score_rollouts"),
        model=model_flags,
        sampling=sampling_flags,
        prompt=prompt_for("sampling"),
        grader=GRADER,
        trajectories=flags(trajectories=config["rollouts"]["trajectories"]),
        method=rollout_flags,
        shard="",
        seed="{seed}",


use rule find_critical as find_critical_again with:
    input:
        model=model_files,
        problems="<results>/data/{dataset}/train.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
        rollouts="<results>/{model}/{dataset}/rollouts/seed{seed}.parquet",
        annotations=annotation_files,
    output:
        "<results>/{model}/{dataset}/critical/seed{seed}.parquet",
    log:
        "<logs>/find_critical_again/{model}/{dataset}/seed{seed}.log",
    benchmark:
        "<benchmarks>/find_critical_again/{model}/{dataset}/seed{seed}.tsv"


use rule agreement_cell as agreement_again with:
    input:
        critical="<results>/{model}/{dataset}/critical/seed{seed}.parquet",
        contrast="<results>/{model}/{dataset}/contrast.parquet",
        reference="<results>/{model}/{dataset}/reference.parquet",
    output:
        "<results>/{model}/{dataset}/agreement_rollouts{seed}.csv",
    log:
        "<logs>/agreement_again/{model}/{dataset}/rollouts{seed}.log",
    benchmark:
        "<benchmarks>/agreement_again/{model}/{dataset}/rollouts{seed}.tsv"
    params:
        code=code_version("agreement_cell"),
        variant="rollouts{seed}",


use rule significance as compare_scores with:
    input:
        [
            f"<results>/{model}/{dataset}/agreement{scores}.csv"
            for model in config["agreement"]["models"]
            for dataset in config["agreement"]["datasets"]
            for scores in [
                "",
                *(f"-{name}" for name in config["agreement"]["variants"]),
                *(f"_rollouts{seed}" for seed in config["agreement"]["rollout_seeds"]),
            ]
        ],
    output:
        "<results>/studies/agreement.csv",
    log:
        "<logs>/compare_scores.log",
    benchmark:
        "<benchmarks>/compare_scores.tsv"


use rule replace_critical as replace_critical_again with:
    output:
        "<results>/{model}/{dataset}/replacements/{distribution}-seed{seed}.parquet",
    log:
        "<logs>/replace_critical_again/{model}/{dataset}/{distribution}-seed{seed}.log",
    benchmark:
        "<benchmarks>/replace_critical_again/{model}/{dataset}/{distribution}-seed{seed}.tsv"
    params:
        code=code_version("replace_critical"),
        model=model_flags,
        sampling=sampling_flags,
        prompt=prompt_for("sampling"),
        grader=GRADER,
        draws=config["rollouts"]["replacements"],
        replacement="{distribution}",
        seed="{seed}",


rule compare_replacements:
    """Figure 2's pass@k with replacements from the full softmax and from the sampling distribution, over seeds."""
    input:
        replacement_runs("<results>/{model}/{dataset}/replacements/{distribution}-seed{seed}.parquet"),
    output:
        "<results>/studies/replacement.csv",
    log:
        "<logs>/compare_replacements.log",
    benchmark:
        "<benchmarks>/compare_replacements.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("compare_replacements"),
        runs=replacement_runs("{model}:{dataset}:{distribution}:{seed}"),
    shell:
        f"python {SCRIPTS}/compare_replacements.py"
        " --runs {params.runs}"
        " --replacements {input:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule vary_critical:
    """Other thresholds of the critical token's rule, and fewer rollouts per token."""
    input:
        rollouts=cells("<results>/{model}/{dataset}/rollouts.parquet"),
        critical=cells("<results>/{model}/{dataset}/critical.parquet"),
    output:
        pdf="<figures>/studies/critical_rule.pdf",
        png="<figures>/studies/critical_rule.png",
        data="<results>/studies/critical_rule.csv",
    log:
        "<logs>/vary_critical.log",
    benchmark:
        "<benchmarks>/vary_critical.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("vary_critical"),
        cells=cells("{model}:{dataset}"),
        rule=flags(**config["critical_rule"]),
        seed=config["rollouts"]["seed"],
    shell:
        f"python {SCRIPTS}/vary_critical.py"
        " --cells {params.cells}"
        " --rollouts {input.rollouts:q}"
        " --critical {input.critical:q}"
        " {params.rule}"
        " --seed {params.seed}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"
