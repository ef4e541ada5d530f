"""The bill, before anything runs: `snakemake plan`.

READS   the config, benchmarks/ of rules that have run
WRITES  <results>/plan.csv, and prints its sums
PAPER   gives tokens of rollouts and nothing else (section 2)
COST    a second
"""

import json


# A rule without output or benchmark runs whenever it is asked for: the plan is to be seen.
rule plan:
    """Jobs, tokens, GPU hours, memory and disk of every rule in every cell of the selection."""
    log:
        "<logs>/plan.log",
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
