"""Compare two methods, or two commits, over all common cells:

python -m scripts.compare adalora lora
python -m scripts.compare "adalora" "adalora importance=magnitude"
python -m scripts.compare 830f1b7 46709ab --runs results/runs other/runs
"""

import sys
from pathlib import Path

from scripts.options import Parser, exit_code


def main() -> None:
    """Print the table."""
    parser = Parser(description="Paired differences of two methods, or two commits.", allow_abbrev=False)
    parser.add_argument("one", metavar="A", help="a method, with options of its variant, or a commit")
    parser.add_argument("other", metavar="B", help="what is subtracted from it")
    parser.add_argument("--runs", type=Path, nargs="+", default=[Path("results/runs")], help="folders of runs")
    args = parser.parse_args()

    from adalora.reporting.compare import compare, comparison_text
    from adalora.reporting.frame import read

    frame, skipped = read(*(root.expanduser() for root in args.runs))
    rows, alone = compare(frame, args.one, args.other)
    for line in skipped:
        print(f"warning: skipped {line}", file=sys.stderr)
    print(comparison_text(rows, args.one, args.other))
    for line in alone:
        print(f"left out: {line}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
