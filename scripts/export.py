"""Export a finished run as a PEFT adapter, a plain model, or a model card:

python -m scripts.export RUN --to peft --out FOLDER                  # LoRA of each module's rank, with the head
python -m scripts.export RUN --to peft --form adalora --out FOLDER   # AdaLoRA's triplets as PEFT's AdaLoRA
python -m scripts.export RUN --to merged --out FOLDER                # weights with the increments in them
python -m scripts.export RUN --to card --out FOLDER                  # README.md only; the others write it too

RUN is a run folder, results/runs/.../seed<n>-<key>.
"""

import sys
from pathlib import Path

from scripts.options import Parser, exit_code


def main() -> None:
    """Export, and print the folder."""
    parser = Parser(description="Export a finished run.", allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder, results/runs/.../seed<n>-<key>")
    parser.add_argument("--to", required=True, choices=("peft", "merged", "card"),
                        help="a PEFT adapter, a plain model with merged weights, or a model card")  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, help="a new or empty folder; for a card, without README.md")
    parser.add_argument("--form", choices=("lora", "adalora"), default="lora",
                        help="of AdaLoRA in PEFT: LoRA of each module's rank, or triplets (%(default)s)")  # fmt: skip
    parser.add_argument("--push", metavar="USER/NAME", help="also upload the folder to the hub")
    parser.add_argument("--model-path", metavar="FOLDER", help="the backbone, if it isn't where it was")
    args = parser.parse_args()

    from adalora.export.command import export

    export(args.run.expanduser(), args.to, args.out.expanduser(), args.form, args.push, args.model_path)
    print(args.out)


if __name__ == "__main__":
    sys.exit(exit_code(main))
