"""The same search over learning rates for every method, judged on the validation split.

READS   <results>/data/{dataset}/validation.parquet, adapters of {method}-lr{rate}
WRITES  validation.parquet, validation_grades.parquet and validation.json beside those adapters,
        <results>/tuning.csv
PAPER   gives one learning rate for each method (section 4.1), not how it was found
COST    as many trainings as methods x rates x cells x seeds
"""


use rule evaluate_method as validate_method with:
    input:
        model=model_files,
        shots=shots_of("evaluation"),
        problems="<results>/data/{dataset}/validation.parquet",
        adapters=adapters_of(recipe.chain),
    output:
        answers="<results>/{model}/{dataset}/{method}/seed{seed}/validation.parquet",
        grades="<results>/{model}/{dataset}/{method}/seed{seed}/validation_grades.parquet",
        metrics="<results>/{model}/{dataset}/{method}/seed{seed}/validation.json",
    log:
        "<logs>/validate_method/{model}/{dataset}/{method}/seed{seed}.log",
    benchmark:
        "<benchmarks>/validate_method/{model}/{dataset}/{method}/seed{seed}.tsv"
    params:
        about=lambda wildcards: "tuned={method} learning_rate={value}".format(
            **SWEPT["tuning"][wildcards.method]
        ),


rule tune:
    """Validation accuracy of every method at every learning rate, and its mean over the cells."""
    input:
        paths("<results>/{model}/{dataset}/{method}/seed{seed}/validation.json", TUNED),
    output:
        "<results>/tuning.csv",
    log:
        "<logs>/tune.log",
    benchmark:
        "<benchmarks>/tune.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("tune"),
    shell:
        f"python {SCRIPTS}/tune.py"
        " --metrics {input:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
