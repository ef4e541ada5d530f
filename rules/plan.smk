"""The bill, before anything runs: `snakemake plan`.

READS   the config, benchmarks/ of rules that have run
WRITES  <results>/plan.csv, and prints its sums
PAPER   gives tokens of rollouts and nothing else (section 2)
COST    a second
"""

import json


rule plan:
    """Jobs, tokens, GPU hours, memory and disk of every rule in every cell of the selection."""
    output:
        # Made anew whenever it is asked for: whoever asks for the plan wants to see it.
        update("<results>/plan.csv"),
    log:
        "<logs>/plan.log",
    benchmark:
        "<benchmarks>/plan.tsv"
    localrule: True
    conda:
        "../envs/driver.yaml"
    params:
        code=code_version("plan"),
        config=json.dumps(config),
        benchmarks=BENCHMARKS,
    shell:
        f"python {SCRIPTS}/plan.py"
        " --config <(printf %s {params.config:q})"
        " --benchmarks {params.benchmarks:q}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
