"""Evaluation of every method on the test problems.

READS   <results>/data/{dataset}/test.parquet, the base model and the method's adapters
WRITES  evaluation.parquet, evaluation_grades.parquet and metrics.json in
        <results>/{model}/{dataset}/{method}/seed{seed}/
PAPER   section 4.1 (greedy decoding)
COST    seconds (pocket), GPU minutes (paper)
"""


rule evaluate_method:
    """Greedy answers of a method's model, graded."""
    input:
        model=model_files,
        shots=shots_of("evaluation"),
        problems="<results>/data/{dataset}/test.parquet",
        adapters=adapters_of(recipe.chain),
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
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        python=engine_python,
        runtime=minutes_for("evaluate_method {method}"),
    params:
        code=code_version("evaluate_method"),
        model=model_flags,
        engine=engine_flags,
        start=lambda wildcards: recipe.start(wildcards.method),
        # Further names of the run, for rules that are made from this one.
        about="",
        sampling=lambda wildcards: recipe.evaluation(wildcards.dataset),
        prompt=prompt_of("evaluation"),
        grader=GRADER,
    shell:
        f"{{resources.python:q}} {SCRIPTS}/evaluate_method.py"
        " {params.model}"
        " --about model={wildcards.model} dataset={wildcards.dataset} method={wildcards.method}"
        " start={params.start} seed={wildcards.seed} {params.about}"
        " --adapters {input.adapters:q}"
        " --problems {input.problems:q}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --grader {params.grader}"
        " --samples {params.sampling[samples]}"
        " --limit {params.sampling[problems]}"
        " --temperature {params.sampling[temperature]}"
        " --top-p {params.sampling[top_p]}"
        " --max-new-tokens {params.sampling[max_new_tokens]}"
        " {params.engine}"
        " --seed {wildcards.seed}"
        " --output {output.answers:q}"
        " --grades {output.grades:q}"
        " --metrics {output.metrics:q}"
        " 2>&1 | tee {log:q}"
