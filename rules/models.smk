"""Models in GGUF files are converted, and each base model is checked before its first use.

READS   GGUF files; the files of a base model
WRITES  <results>/models/{model}/, <results>/checked/{model}.json
PAPER   nothing
COST    minutes for a GGUF file; seconds for a check
"""


rule convert_gguf:
    """A model folder from a GGUF file, once; all other rules read the folder."""
    input:
        file=lambda wildcards: config["model_registry"][wildcards.model]["gguf"],
        tokenizer=lambda wildcards: model_entries.tokenizer_files(
            config, wildcards.model
        ),
    output:
        weights="<results>/models/{model}/model.safetensors",
        others=expand("<results>/models/{{model}}/{name}", name=CONVERTED),
    log:
        "<logs>/convert_gguf/{model}.log",
    benchmark:
        "<benchmarks>/convert_gguf/{model}.tsv"
    wildcard_constraints:
        model=any_of(IN_GGUF),
    conda:
        "../envs/train.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: sizing.conversion_memory_mb(
            config["model_registry"][wildcards.model], attempt, HARDWARE
        ),
    params:
        code=code_version("convert_gguf"),
        model=lambda wildcards: recipe.conversion(wildcards.model),
    shell:
        f"python {SCRIPTS}/convert_gguf.py"
        " --file {input.file:q}"
        " {params.model}"
        " --weights {output.weights:q}"
        " 2>&1 | tee {log:q}"


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
