"""Sample, grade and select trajectories.

READS   <results>/data/{dataset}/train.parquet, the base model
WRITES  trajectories, grades, positive, negative and pairs (.parquet) of a cell
PAPER   section 3.2 (positive and negative sets), section 4.1 (N = 64 samples of a question)
COST    sampling: seconds (pocket), GPU hours (paper)

`batch_rows` is a resource and no param: no row of a table depends on it, so nothing runs again
when it changes.
"""


rule sample:
    """Sample answers to the train problems."""
    input:
        checked="<results>/checked/{model}.json",
        model=model_files,
        shots=shots_of("sampling"),
        problems="<results>/data/{dataset}/train.parquet",
    output:
        part("<results>/{model}/{dataset}/trajectories.parquet", "trajectories"),
    log:
        part("<logs>/sample/{model}/{dataset}.log", "trajectories"),
    benchmark:
        part("<benchmarks>/sample/{model}/{dataset}.tsv", "trajectories")
    conda:
        engine_environment
    threads: cores_for(LONE)
    resources:
        gpu=gpus_for("sample"),
        mem_mb=memory_for,
        cpus_per_task=cores_for(NODE),
        python=engine_python,
        runtime=minutes_for("sample"),
    params:
        code=code_version("sample"),
        model=model_flags,
        engine=engine_flags,
        sampling=lambda wildcards: recipe.sampling(wildcards.model, wildcards.dataset),
        prompt=prompt_of("sampling"),
        limit=config["trajectories"]["problems"],
        samples=config["trajectories"]["samples"],
        shard=lambda wildcards: wildcards.get("shard", WHOLE),
        seed=config["trajectories"]["seed"],
    shell:
        f"{{resources.python:q}} {SCRIPTS}/sample.py"
        " {params.model}"
        " --about model={wildcards.model} dataset={wildcards.dataset}"
        " --problems {input.problems:q}"
        " --limit {params.limit}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --samples {params.samples}"
        " --shard {params.shard}"
        " --temperature {params.sampling[temperature]}"
        " --top-p {params.sampling[top_p]}"
        " --max-new-tokens {params.sampling[max_new_tokens]}"
        " {params.engine}"
        " --seed {params.seed}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule grade:
    """Extract and grade the answers of the trajectories."""
    input:
        trajectories=part("<results>/{model}/{dataset}/trajectories.parquet", "grades"),
        problems="<results>/data/{dataset}/train.parquet",
    output:
        part("<results>/{model}/{dataset}/grades.parquet", "grades"),
    log:
        part("<logs>/grade/{model}/{dataset}.log", "grades"),
    benchmark:
        part("<benchmarks>/grade/{model}/{dataset}.tsv", "grades")
    conda:
        "../envs/analysis.yaml"
    threads: cores_for(LONE)
    resources:
        cpus_per_task=cores_for(NODE),
        mem_mb=batch_memory_for(grading=True),
        batch_rows=config["trajectories"]["batch_rows"],
    params:
        code=code_version("grade"),
        style=lambda wildcards: config["dataset_registry"][wildcards.dataset]["style"],
        grader=GRADER,
    shell:
        f"python {SCRIPTS}/grade.py"
        " --trajectories {input.trajectories:q}"
        " --problems {input.problems:q}"
        " --style {params.style}"
        " --grader {params.grader}"
        " --batch-rows {resources.batch_rows}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


if any(count > 1 for count in SHARDS.values()):

    rule gather:
        """A table from the parts that several jobs wrote."""
        input:
            lambda wildcards: parts(wildcards.table),
        output:
            "<results>/{model}/{dataset}/{table}.parquet",
        log:
            "<logs>/gather/{model}/{dataset}/{table}.log",
        benchmark:
            "<benchmarks>/gather/{model}/{dataset}/{table}.tsv"
        wildcard_constraints:
            table=any_of(table for table, stage in SHARDED.items() if SHARDS[stage] > 1),
        conda:
            "../envs/analysis.yaml"
        params:
            code=code_version("gather"),
        shell:
            f"python {SCRIPTS}/gather.py"
            " --table {wildcards.table}"
            " --parts {input:q}"
            " --output {output:q}"
            " 2>&1 | tee {log:q}"


rule import_released:
    """The authors' positive set, negative set and preference pairs instead of sampled ones."""
    input:
        files=released_files,
        checked="<results>/checked/{model}.json",
        model=model_files,
        shots=shots_of("pairs"),
        problems="<results>/data/{dataset}/train.parquet",
    output:
        positive="<results>/{model}/{dataset}/positive.parquet",
        negative="<results>/{model}/{dataset}/negative.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
    log:
        "<logs>/import_released/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/import_released/{model}/{dataset}.tsv"
    wildcard_constraints:
        dataset=any_of(RELEASED),
    conda:
        "../envs/train.yaml"
    params:
        code=code_version("import_released"),
        model=model_flags,
        folder=released_folder,
        prompt=prompt_of("pairs"),
        answers=prompt_of("answers"),
    shell:
        f"python {SCRIPTS}/import_released.py"
        " {params.model}"
        " --about model={wildcards.model} dataset={wildcards.dataset}"
        " --folder {params.folder:q}"
        " --problems {input.problems:q}"
        " --style {params.prompt[style]}"
        " --template {params.prompt[template]}"
        " --blank {params.prompt[blank]}"
        " --shots {input.shots:q}"
        " {params.prompt[chat]}"
        " --answers-template {params.answers[template]}"
        " {params.answers[chat]}"
        " --positive {output.positive:q}"
        " --negative {output.negative:q}"
        " --pairs {output.pairs:q}"
        " 2>&1 | tee {log:q}"


rule select_answers:
    """The positive set, the negative set and the preference pairs."""
    input:
        trajectories="<results>/{model}/{dataset}/trajectories.parquet",
        grades="<results>/{model}/{dataset}/grades.parquet",
    output:
        positive="<results>/{model}/{dataset}/positive.parquet",
        negative="<results>/{model}/{dataset}/negative.parquet",
        pairs="<results>/{model}/{dataset}/pairs.parquet",
    log:
        "<logs>/select_answers/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/select_answers/{model}/{dataset}.tsv"
    wildcard_constraints:
        dataset=any_of(
            name for name in config["dataset_registry"] if name not in RELEASED
        ),
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=batch_memory_for(grading=False),
        batch_rows=config["trajectories"]["batch_rows"],
    params:
        code=code_version("select_answers"),
        coverage=config["selection"]["negative_coverage"],
        repeated=config["selection"]["repeated_only"],
        seed=config["selection"]["seed"],
    shell:
        f"python {SCRIPTS}/select_answers.py"
        " --trajectories {input.trajectories:q}"
        " --grades {input.grades:q}"
        " --coverage {params.coverage}"
        " --repeated-only {params.repeated}"
        " --batch-rows {resources.batch_rows}"
        " --seed {params.seed}"
        " --positive {output.positive:q}"
        " --negative {output.negative:q}"
        " --pairs {output.pairs:q}"
        " 2>&1 | tee {log:q}"
