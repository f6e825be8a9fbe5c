"""Write tables of all finished runs, next to the published numbers of the same variants:

python scripts/tables.py
python scripts/tables.py --runs results/runs --out results/tables
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs uninstalled, as train.py does

from adalora.reporting.findings import gather
from adalora.reporting.tables import write_tables
from scripts.options import Parser, exit_code


def main() -> int:
    """Write the tables, and print the files."""
    parser = Parser(
        description="Tables of all finished runs, beside the published numbers of the same variants.",
        allow_abbrev=False,
    )
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="folder of runs (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/tables"), help="folder to write to (%(default)s)")
    args = parser.parse_args()
    files, lines = write_tables(gather(args.runs.expanduser()), args.out.expanduser())
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
    skipped = sum(line.startswith("skipped ") for line in lines)
    print(f"{', '.join(map(str, files))}" + (f" ({skipped} result.json skipped)" if skipped else ""))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
