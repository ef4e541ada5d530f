"""Convert a GGUF file into a model folder, which all other programs read as any other model."""

from __future__ import annotations

import os
from pathlib import Path

from critical_tokens.core import hub, provenance
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--file", type=Path, required=True, help="the model, a GGUF file")
    parser.add_argument(
        "--tokenizer",
        help="folder or hub id of the original tokenizer, which must encode texts alike (that in the file by default)",
    )
    parser.add_argument("--revision", help="revision of a hub tokenizer: a commit, a branch or a tag")
    sampling_arguments.add_dtype(parser)
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors of the folder to write")
    args = parser.parse_args()
    run = provenance.Run("convert_gguf", args)
    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers shows a bar, which a log cannot

    from critical_tokens.models import gguf_conversion

    named = None if args.tokenizer is None else hub.folder("tokenizer", args.tokenizer, args.revision)
    header = gguf_conversion.convert(args.file, args.weights.parent, args.dtype, named)
    facts = {
        "name": args.file.name,
        "checksum": provenance.checksum(args.file),
        "bytes": args.file.stat().st_size,
        "architecture": header.architecture,
        "parameters": header.parameters,
        "quantisation": header.quantisation,
        "tensors": header.types,
    }
    run.describe(args.weights, gguf=facts)


if __name__ == "__main__":
    command_line.run(main)
