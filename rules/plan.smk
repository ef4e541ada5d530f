"""The bill, before anything runs: `snakemake plan`.

READS   the config, benchmarks/ of rules that have run
WRITES  <results>/plan.csv, and prints its sums
PAPER   gives tokens of rollouts and nothing else (section 2)
COST    a second
"""

import json


# Without an output, so it runs whenever it is asked for: whoever asks for the plan wants to see it.
rule plan:
    """Jobs, tokens, GPU hours, memory and disk of every rule in every cell of the selection."""
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
        output=f"{RESULTS}/plan.csv",
    shell:
        f"python {SCRIPTS}/plan.py"
        " --config <(printf %s {params.config:q})"
        " --benchmarks {params.benchmarks:q}"
        " --output {params.output:q}"
        " 2>&1 | tee {log:q}"
