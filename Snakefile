# Replication of "Critical Tokens Matter" (Lin et al., arXiv 2411.19943, ICML 2025).
#
# A cell is a model and a dataset. Below results/:
#
# data/{dataset}/{split}.parquet      problems
# checked/{model}.json                facts about a model, found before it is used
# models/{model}/                     the folder that a model's GGUF file is converted to
# hub/                                answers of the hub, and checksums of what was fetched
# {model}/{dataset}/                  a cell, with one table each of sampled answers (trajectories),
#                                     grades, positive, negative, pairs, rollouts, critical,
#                                     replacement, contrast
# {model}/{dataset}/{side}/           adapter of the positive or negative model
# {model}/{dataset}/{method}/seed{seed}/    a method's adapter, history, evaluation and metrics
# {model}/{dataset}/table1.csv        Table 1 of the cell
# table1.csv                          Table 1 of all selected cells
# packages/{model}/{dataset}.tar      a cell in one file
# studies/                            tables of the studies
# plan.csv                            what the selection will take
#
# figures/fig{1,2,3,5,6}.pdf are the figures; their numbers are in results/. Every table and every
# adapter has a *.meta.json beside it. Every rule has a log in logs/ and a benchmark in benchmarks/.
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
