"""A cell in one file, to publish it or to start from it (`python scripts/unpack.py FILE`).

READS   the tables, adapters and metrics of a cell, the problems of its dataset
WRITES  <results>/packages/{model}/{dataset}.tar
PAPER   nothing
COST    seconds
"""


rule pack:
    """Problems, tables, adapters and metrics of a cell, with their checksums."""
    input:
        expand("<results>/data/{{dataset}}/{split}.parquet", split=["train", "test"]),
        lambda wildcards: [
            f"<results>/{{model}}/{{dataset}}/{name}"
            for name in recipe.packed(
                wildcards.dataset, scored=wildcards.dataset in SCORED
            )
        ],
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/adapter_model.safetensors",
            CELL_TRAINED,
        ),
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/adapter_config.json",
            CELL_TRAINED,
        ),
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/history.csv", CELL_TRAINED
        ),
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/evaluation.parquet",
            CELL_RUNS,
        ),
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/evaluation_grades.parquet",
            CELL_RUNS,
        ),
        paths("<results>/{model}/{dataset}/{method}/seed{seed}/metrics.json", CELL_RUNS),
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
