"""The plan: what the selection will take, before anything runs (`snakemake plan`).

READS   the config, benchmarks/ of rules that have run
WRITES  <results>/plan.csv, and prints its sums
PAPER   gives only the number of rollout tokens (section 2)
COST    a second
"""

import json


# The rule has no output and no benchmark, so that it always runs and prints the plan.
rule plan:
    """Jobs, tokens, GPU hours, memory and disk of every rule in every cell of the selection."""
    input:
        # No files. Packages that a run would miss are told.
        lambda wildcards: [
            model for model in config["models"] if check_packages(model, planned=True)
        ],
    log:
        "<logs>/plan.log",
    localrule: True
    conda:
        "../envs/driver.yaml"
    # Those of a lone job, because the plan tries how fast such jobs will be.
    threads: LONE
    params:
        code=code_version("plan"),
        # A function, because Snakemake would read {question} in a plain text as a wildcard.
        config=lambda wildcards: json.dumps(config),
        benchmarks=BENCHMARKS,
        output=f"{RESULTS}/plan.csv",
    shell:
        f"python {SCRIPTS}/plan.py"
        " --config <(printf %s {params.config:q})"
        " --benchmarks {params.benchmarks:q}"
        " --output {params.output:q}"
        " 2>&1 | tee {log:q}"
