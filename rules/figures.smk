"""The figures of the paper, as PDF and PNG, and the numbers in them.

READS   tables of the cells
WRITES  <figures>/fig{1,2,6}.pdf and .png, <results>/fig1.json, fig2.csv and fig6.csv
PAPER   Figures 1, 2 and 6 of v1 and v2 (v3 and ICML: Figures 1, 2 and 4)
COST    seconds
"""


rule plot_fig1:
    """One incorrect trajectory, its scores, its critical token and both branches."""
    input:
        problems="<results>/data/{dataset}/train.parquet".format(**EXAMPLE),
        pairs=f"{EXAMPLE_FOLDER}/pairs.parquet",
        rollouts=f"{EXAMPLE_FOLDER}/rollouts.parquet",
        critical=f"{EXAMPLE_FOLDER}/critical.parquet",
        replacement=f"{EXAMPLE_FOLDER}/replacement.parquet",
    output:
        pdf="<figures>/fig1.pdf",
        png="<figures>/fig1.png",
        data="<results>/fig1.json",
    log:
        "<logs>/plot_fig1.log",
    benchmark:
        "<benchmarks>/plot_fig1.tsv"
    conda:
        "../envs/train.yaml"
    params:
        code=code_version("plot_fig1"),
        model=recipe.model(EXAMPLE["model"]),
    shell:
        f"python {SCRIPTS}/plot_fig1.py"
        " {params.model}"
        " --problems {input.problems:q}"
        " --pairs {input.pairs:q}"
        " --rollouts {input.rollouts:q}"
        " --critical {input.critical:q}"
        " --replacement {input.replacement:q}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"


rule plot_fig2:
    """pass@k with the critical token kept and replaced, for every cell."""
    input:
        paths("<results>/{model}/{dataset}/replacement.parquet", CELLS),
    output:
        pdf="<figures>/fig2.pdf",
        png="<figures>/fig2.png",
        data="<results>/fig2.csv",
    log:
        "<logs>/plot_fig2.log",
    benchmark:
        "<benchmarks>/plot_fig2.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("plot_fig2"),
    shell:
        f"python {SCRIPTS}/plot_fig2.py"
        " --replacements {input:q}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"


rule plot_fig6:
    """Log-probabilities of chosen and rejected answers over training."""
    input:
        paths(
            "<results>/{model}/{dataset}/{method}/seed{seed}/history.csv",
            selections.runs(
                config["figures"]["figure6_methods"], config["seeds"], CELLS
            ),
        ),
    output:
        pdf="<figures>/fig6.pdf",
        png="<figures>/fig6.png",
        data="<results>/fig6.csv",
    log:
        "<logs>/plot_fig6.log",
    benchmark:
        "<benchmarks>/plot_fig6.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_version("plot_fig6"),
        window=config["figures"]["figure6_window"],
    shell:
        f"python {SCRIPTS}/plot_fig6.py"
        " --histories {input:q}"
        " --window {params.window}"
        " --data {output.data:q}"
        " --output {output.pdf:q}"
        " 2>&1 | tee {log:q}"
