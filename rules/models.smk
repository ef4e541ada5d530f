"""A check of each base model, before anything is sampled from it.

READS   the files of a base model
WRITES  <results>/checked/{model}.json
PAPER   nothing
COST    seconds
"""


rule check_model:
    """Check that a model has a tokenizer, tokens that end answers, and the layers that LoRA adapts."""
    input:
        model_files,
    output:
        "<results>/checked/{model}.json",
    log:
        "<logs>/check_model/{model}.log",
    benchmark:
        "<benchmarks>/check_model/{model}.tsv"
    conda:
        "../envs/train.yaml"
    params:
        code=code_version("check_model"),
        model=model_flags,
        layers=lambda wildcards: recipe.lora_layers(wildcards.model),
        chat=lambda wildcards: recipe.checked_chat(),
    shell:
        f"python {SCRIPTS}/check_model.py"
        " {params.model}"
        " --model-name {wildcards.model}"
        " --layers {params.layers:q}"
        " {params.chat}"
        " --output {output:q}"
        " 2>&1 | tee {log:q}"
