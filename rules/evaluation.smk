"""Evaluation of every method on the test problems.

READS   <results>/data/{dataset}/test.parquet, the base model and the method's adapters
WRITES  evaluation.parquet and metrics.json in <results>/{model}/{dataset}/{method}/seed{seed}/
PAPER   section 4.1 (greedy decoding)
COST    seconds (pocket), GPU minutes (paper)
"""


rule evaluate_method:
    """Greedy answers of a method's model, graded."""
    input:
        model=model_files,
        shots=shots_for("evaluation"),
        problems="<results>/data/{dataset}/test.parquet",
        adapters=own_adapters,
    output:
        answers="<results>/{model}/{dataset}/{method}/seed{seed}/evaluation.parquet",
        grades="<results>/{model}/{dataset}/{method}/seed{seed}/evaluation_grades.parquet",
        metrics="<results>/{model}/{dataset}/{method}/seed{seed}/metrics.json",
    log:
        "<logs>/evaluate_method/{model}/{dataset}/{method}/seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate_method/{model}/{dataset}/{method}/seed{seed}.tsv"
    conda:
        engine_environment
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for("sample"),
        runtime=minutes_for("evaluate_method {method}"),
    params:
        code=code_version("evaluate_method"),
        model=model_flags,
        evaluation=evaluation_flags,
        prompt=prompt_for("evaluation"),
        grader=GRADER,
    shell:
        f"python {SCRIPTS}/evaluate_method.py"
        " {params.model}"
        " --adapters {input.adapters:q}"
        " --problems {input.problems:q}"
        " {params.prompt}"
        " --grader {params.grader}"
        " {params.evaluation}"
        " --seed {wildcards.seed}"
        " --output {output.answers:q}"
        " --grades {output.grades:q}"
        " --metrics {output.metrics:q}"
        " 2>&1 | tee {log:q}"
