"""Pretrain a pocket base model on generated problems with solutions.

The solutions misread some phrasings with a known probability, so the model learns these mistakes.
"""

from __future__ import annotations

import time
from pathlib import Path

from critical_tokens.core import records
from critical_tokens.data import prompts
from critical_tokens.models import pocket_pretraining
from critical_tokens.training import likelihood
from critical_tokens.workflow import command_line


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--weights", type=Path, required=True, help="model.safetensors to write, with the model's other files beside it"
    )
    parser.add_argument("--layers", type=int, required=True, help="number of transformer layers")
    parser.add_argument("--width", type=int, required=True, help="size of the hidden states")
    parser.add_argument("--heads", type=int, required=True, help="number of attention heads")
    parser.add_argument("--mlp", type=int, required=True, help="size of the feed-forward layers")
    parser.add_argument("--vocabulary", type=int, required=True, help="number of tokens of the byte-level BPE")
    parser.add_argument(
        "--documents",
        type=int,
        required=True,
        help="number of problems with solutions, of all pocket datasets together",
    )
    parser.add_argument("--prompt-weight", type=float, required=True, help="weight of a problem's tokens in the loss")
    parser.add_argument("--learning-rate", type=float, required=True, help="peak learning rate of AdamW")
    parser.add_argument("--batch-size", type=int, required=True, help="number of documents per update")
    parser.add_argument("--seed", type=int, required=True, help="seed of the documents and of the weights")
    args = parser.parse_args()

    import torch

    from critical_tokens.training import trainer
    from critical_tokens.training.settings import TrainingSettings

    started = time.monotonic()
    corpus = pocket_pretraining.corpus(args.documents, args.seed)
    tokenizer = pocket_pretraining.train_tokenizer(
        (text for document in corpus[:20_000] for text in document), args.vocabulary
    )
    examples = []
    prompt_ids = prompts.encode_texts(tokenizer, [p for p, _ in corpus])
    answer_ids = prompts.encode_texts(tokenizer, [a for _, a in corpus])
    for prompt, answer in zip(prompt_ids, answer_ids, strict=True):
        ids = [tokenizer.bos_token_id, *prompt, *answer, tokenizer.eos_token_id]
        weights = [args.prompt_weight] * (1 + len(prompt)) + [1.0] * (len(answer) + 1)
        examples.append({"input_ids": ids, "weights": weights})

    shape = pocket_pretraining.Shape(args.layers, args.width, args.heads, args.mlp)
    model = pocket_pretraining.build_model(shape, tokenizer, args.seed)
    settings = TrainingSettings(
        learning_rate=args.learning_rate,
        epochs=1,
        batch_size=args.batch_size,
        schedule="cosine",
        warmup_share=0.02,
        weight_decay=0.1,
        adam_beta2=0.98,
        by_length=True,
        seed=args.seed,
    )
    label = str(args.weights.parent)
    history = trainer.fit(
        model, examples, likelihood.collate_weighted, likelihood.nll_objective, settings, label, 50
    ).history
    with records.replacing_folder(args.weights.parent) as folder:
        tokenizer.save_pretrained(folder)
        trainer.save_model(model, folder, torch.bfloat16)
        settings = {name: value for name, value in vars(args).items() if name != "weights"}
        recipe = settings | {
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokens": sum(len(e["input_ids"]) for e in examples),
            "loss": history[-1]["loss"],
            "losses": {int(row["step"]): round(row["loss"], 4) for row in history[4::5]},
            "minutes": round((time.monotonic() - started) / 60, 1),
        }
        records.write_json(folder / "recipe.json", recipe)


if __name__ == "__main__":
    command_line.run(main)
