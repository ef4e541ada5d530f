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
        "python scripts/summarize_study.py"
        " --runs {params.runs}"
        " --grades {input}"
        " --against {params.against}"
        " --data {output.data}"
        " --output {output.pdf}"
        " 2>&1 | tee {log}"


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
        "python scripts/summarize_temperatures.py"
        " --runs {params.runs}"
        " --grades {input}"
        " --data {output.data}"
        " --output {output.pdf}"
        " 2>&1 | tee {log}"


use rule significance as compare_scores with:
    input:
        [
            f"<results>/{model}/{dataset}/agreement{variant}.csv"
            for model in config["agreement"]["models"]
            for dataset in config["agreement"]["datasets"]
            for variant in ["", *(f"-{name}" for name in config["agreement"]["variants"])]
        ],
    output:
        "<results>/studies/agreement.csv",
    log:
        "<logs>/compare_scores.log",
    benchmark:
        "<benchmarks>/compare_scores.tsv"


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
        "python scripts/vary_critical.py"
        " --cells {params.cells}"
        " --rollouts {input.rollouts}"
        " --critical {input.critical}"
        " {params.rule}"
        " --seed {params.seed}"
        " --data {output.data}"
        " --output {output.pdf}"
        " 2>&1 | tee {log}"
