"""Export a finished run as a PEFT adapter, a plain model, or a model card:

python scripts/export.py RUN to=peft out=FOLDER              # adapter_config.json, adapter_model.safetensors, head
python scripts/export.py RUN to=peft out=FOLDER type=lora    # AdaLoRA's triplets as LoRA of each map's rank
python scripts/export.py RUN to=merged out=FOLDER            # weights with the increments in them, and the tokenizer
python scripts/export.py RUN to=card out=FOLDER              # README.md only; the others write it too
python scripts/export.py RUN to=peft out=FOLDER push=USER/NAME   # and upload the folder to the hub

python scripts/export.py RUN to=peft out=FOLDER model.path=FOLDER   # if the backbone isn't where it was

RUN is a run folder, results/runs/.../seed<n>-<key>. FOLDER must be new or empty (to=card: without README.md).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs uninstalled, as train.py does

from adalora.errors import UserError


def main() -> int:
    """Export, and print the folder."""
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        from adalora.export.command import export

        print(export(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
