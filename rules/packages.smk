"""A cell in one file, to publish or to start from (`python scripts/unpack.py FILE`).

READS   the tables, adapters and metrics of a cell, the problems of its dataset
WRITES  <results>/packages/{model}/{dataset}.tar
COST    seconds
"""


rule pack:
    """Problems, tables, adapters and metrics of a cell, with their checksums."""
    input:
        expand("<results>/data/{{dataset}}/{split}.parquet", split=["train", "test"]),
        packed_tables,
        [
            f"<results>/{{model}}/{{dataset}}/{method}/seed{seed}/{name}"
            for method, seed in TRAINED
            for name in [*ADAPTER_FILES, "history.csv"]
        ],
        [
            f"<results>/{{model}}/{{dataset}}/{method}/seed{seed}/{name}"
            for method, seed in RUNS
            for name in ["evaluation.parquet", "evaluation_grades.parquet", "metrics.json"]
        ],
    output:
        "<results>/packages/{model}/{dataset}.tar",
    log:
        "<logs>/pack/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/pack/{model}/{dataset}.tsv"
    conda:
        "../envs/driver.yaml"
    params:
        code=code_version("pack"),
    shell:
        f"python {SCRIPTS}/pack.py"
        " --model-name {wildcards.model}"
        " --dataset {wildcards.dataset}"
        " --files {input:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
