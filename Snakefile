# Replication of "Critical Tokens Matter" (Lin et al., arXiv 2411.19943, ICML 2025).
#
# results/data/{dataset}/{split}.parquet            problems
# results/checked/                                  what was found out about a model before it is used
# results/hub/                                      what was asked of the hub, and what was fetched
# results/{model}/{dataset}/trajectories.parquet    sampled answers; beside it grades, positive, negative, pairs, rollouts,
#                                                   critical, replacement, contrast (one table each)
# results/{model}/{dataset}/{side}/                 positive and negative model of contrastive estimation (adapters)
# results/{model}/{dataset}/{method}/seed{seed}/    a method's adapter, training history, evaluation and metrics
# results/{model}/{dataset}/table1.csv              Table 1 of one cell; results/table1.csv of the whole selection
# results/packages/{model}/{dataset}.tar           a cell in one file; results/plan.csv: what a selection takes
# results/studies/                                  methods over seeds, temperatures, other rules for critical tokens
# figures/fig{1,2,3,5,6}.pdf                        figures, their numbers beside the tables in results/
#
# Every table and every adapter has a *.meta.json beside it, every rule a log in logs/ and a benchmark in benchmarks/.
from snakemake.utils import min_version

min_version("9.27")


include: "rules/config.smk"


pathvars:
    results="results",
    figures="figures",


include: "rules/common.smk"
include: "rules/cluster.smk"
include: "rules/targets.smk"
include: "rules/hub.smk"
include: "rules/pretraining.smk"
include: "rules/data.smk"
include: "rules/models.smk"
include: "rules/trajectories.smk"
include: "rules/rollouts.smk"
include: "rules/contrast.smk"
include: "rules/alignment.smk"
include: "rules/evaluation.smk"
include: "rules/tuning.smk"
include: "rules/plan.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/evidence.smk"
include: "rules/studies.smk"
include: "rules/packages.smk"


rule all:
    """Table 1, the figures, and what they cost."""
    default_target: True
    input:
        "<results>/table1.csv",
        "<results>/significance.csv",
        "<results>/agreement.csv",
        "<results>/critical_kinds.csv",
        expand("<figures>/fig{number}.pdf", number=FIGURES),
        "<results>/cost.csv",
    localrule: True
