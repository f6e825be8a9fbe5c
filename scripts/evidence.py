"""Write docs/evidence.md: what has been measured of AdaLoRA and its family, and by whom:

python -m scripts.evidence
python -m scripts.evidence --runs FOLDER --out FOLDER
"""

import sys
from pathlib import Path

from adalora.paths import ROOT
from scripts.options import Parser, exit_code


def main() -> None:
    """Write the page and its figure, and print their paths."""
    parser = Parser(description="The evidence page, from results/paper/family and our runs.", allow_abbrev=False)
    parser.add_argument("--runs", type=Path, help="also a folder of runs, for DeBERTaV3-base")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder to write to (docs)")
    args = parser.parse_args()

    from adalora.reporting.evidence import write_evidence

    files = write_evidence(args.runs and args.runs.expanduser(), args.out.expanduser())
    print(", ".join(map(str, files)))


if __name__ == "__main__":
    sys.exit(exit_code(main))
