"""Studies: methods over seeds, temperatures of evaluation, other rules for the critical token.

READS   graded evaluations, rollouts and critical (.parquet) of cells
WRITES  tables in <results>/studies/, figures in <figures>/studies/ (all by `snakemake studies`)
PAPER   ICML's Table 4 (beta) and Table 5 (temperature); the other studies are this project's own
COST    as many trainings as methods x seeds x cells of a study
"""


rule summarize_study:
    """Accuracy of the methods of a comparison over seeds, and the gap of each to one of them."""
    input:
        lambda wildcards: paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/evaluation_grades.parquet",
            selections.comparison(wildcards.study, SWEPT),
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
        against=lambda wildcards: config["studies"]["comparisons"][wildcards.study][
            "against"
        ],
    shell:
        f"python {SCRIPTS}/summarize_study.py"
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
        about="temperature={temperature}",
        sampling=lambda wildcards: recipe.evaluation(
            wildcards.dataset, wildcards.temperature
        ),


rule summarize_temperatures:
    """Accuracy over the temperature of evaluation, for every method of `temperatures`."""
    input:
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/temperature{temperature}/evaluation_grades.parquet",
            selections.temperatures(),
        ),
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
    shell:
        f"python {SCRIPTS}/summarize_temperatures.py"
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
        shard=WHOLE,
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
        variant="rollouts{seed}",


use rule significance as compare_scores with:
    input:
        paths(
            "<results>/{model}/{dataset}/agreement{scores}.csv",
            selections.agreements(),
        ),
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
        distribution="{distribution}",
        seed="{seed}",


rule compare_replacements:
    """Figure 2's pass@k by the distribution that replacements are drawn from, over seeds."""
    input:
        paths(
            "<results>/{model}/{dataset}/replacements/{distribution}-seed{seed}.parquet",
            selections.replacements(),
        ),
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
    shell:
        f"python {SCRIPTS}/compare_replacements.py"
        " --replacements {input:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule vary_critical:
    """Other thresholds of the critical token's rule, and fewer rollouts of a token."""
    input:
        rollouts=paths("<results>/{model}/{dataset}/rollouts.parquet", CELLS),
        critical=paths("<results>/{model}/{dataset}/critical.parquet", CELLS),
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
        study=config["studies"]["critical_rule"],
        seed=config["rollouts"]["seed"],
    shell:
        f"python {SCRIPTS}/vary_critical.py"
        " --rollouts {input.rollouts:q}"
        " --critical {input.critical:q}"
        " --later-below {params.study[later_below]}"
        " --samples {params.study[samples]}"
        " --subsamples {params.study[subsamples]}"
        " --seed {params.seed}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"
