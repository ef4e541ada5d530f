"""Table 1 of a cell and of the selection, tests and agreement, and what every rule cost.

READS   metrics.json of the methods, data/paper/table1.csv, benchmarks/
WRITES  table1.csv, significance.csv and agreement.csv of a cell and of the selection,
        <results>/table1.md, <results>/cost.csv
PAPER   Table 1 of v1 and v2, Table 3 of v3 and ICML
COST    seconds
"""


rule table1_cell:
    """The rows of Table 1 for one model and dataset."""
    input:
        metrics=paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/metrics.json", CELL_RUNS
        ),
        published=config["published"]["table1"],
    output:
        "<results>/{model}/{dataset}/table1.csv",
    log:
        "<logs>/table1_cell/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/table1_cell/{model}/{dataset}.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("table1_cell"),
        version=config["published"]["version"],
    shell:
        f"python {SCRIPTS}/table1_cell.py"
        " --metrics {input.metrics:q}"
        " --published {input.published:q}"
        " --version {params.version}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule significance_cell:
    """Tests of the differences between the methods of one cell."""
    input:
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/evaluation_grades.parquet",
            CELL_RUNS,
        ),
    output:
        "<results>/{model}/{dataset}/significance.csv",
    log:
        "<logs>/significance_cell/{model}/{dataset}.log",
    benchmark:
        "<benchmarks>/significance_cell/{model}/{dataset}.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("significance_cell"),
    shell:
        f"python {SCRIPTS}/significance_cell.py"
        " --grades {input:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule significance:
    """The tests of all cells in one table."""
    input:
        paths("<results>/{model}/{dataset}/significance.csv", CELLS),
    output:
        "<results>/significance.csv",
    log:
        "<logs>/significance.log",
    benchmark:
        "<benchmarks>/significance.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("stack"),
    shell:
        f"python {SCRIPTS}/stack.py"
        " --tables {input:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


rule agreement_cell:
    """Contrastive scores against rollouts and against the planted truth, in one cell."""
    input:
        critical="<results>/{model}/{dataset}/critical.parquet",
        contrast="<results>/{model}/{dataset}/contrast{variant}.parquet",
        reference="<results>/{model}/{dataset}/reference.parquet",
    output:
        "<results>/{model}/{dataset}/agreement{variant}.csv",
    log:
        "<logs>/agreement_cell/{model}/{dataset}{variant}.log",
    benchmark:
        "<benchmarks>/agreement_cell/{model}/{dataset}/scores{variant}.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("agreement_cell"),
        variant=lambda wildcards: wildcards.variant.removeprefix("-") or "default",
    shell:
        f"python {SCRIPTS}/agreement_cell.py"
        " --variant {params.variant}"
        " --critical {input.critical:q}"
        " --contrast {input.contrast:q}"
        " --reference {input.reference:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"


use rule significance as agreement with:
    input:
        paths("<results>/{model}/{dataset}/agreement.csv", CELLS),
    output:
        "<results>/agreement.csv",
    log:
        "<logs>/agreement.log",
    benchmark:
        "<benchmarks>/agreement.tsv"


rule table1:
    """Table 1: all cells, tidy and in the paper's layout."""
    input:
        paths("<results>/{model}/{dataset}/table1.csv", CELLS),
    output:
        tidy="<results>/table1.csv",
        markdown="<results>/table1.md",
    log:
        "<logs>/table1.log",
    benchmark:
        "<benchmarks>/table1.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("table1"),
    shell:
        f"python {SCRIPTS}/table1.py"
        " --cells {input:q}"
        " --output {output.tidy:q}"
        " --markdown {output.markdown:q}"
        " 2>&1 | tee {log:q}"


rule summarize_cost:
    """What every rule took, by cell, from the benchmark files of this and earlier runs."""
    input:
        "<results>/table1.csv",
        expand("<figures>/fig{number}.pdf", number=FIGURES),
    output:
        "<results>/cost.csv",
    log:
        "<logs>/summarize_cost.log",
    benchmark:
        "<benchmarks>/summarize_cost.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("summarize_cost"),
        benchmarks=BENCHMARKS,
    shell:
        f"python {SCRIPTS}/summarize_cost.py"
        " --benchmarks {params.benchmarks:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
