"""Write the tables, and a report as one HTML file:

python scripts/report.py
python scripts/report.py --runs results/runs --out results/tables
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs uninstalled, as train.py does

from adalora.progress.track_report import track
from adalora.reporting.findings import gather
from adalora.reporting.report.write import write_report
from adalora.reporting.tables import write_tables
from scripts.options import Parser, exit_code


def main() -> int:
    """Write both, and print the files."""
    parser = Parser(description="A report of all finished runs as one HTML file, and the tables.", allow_abbrev=False)
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="folder of runs (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/tables"), help="folder to write to (%(default)s)")
    parser.add_argument("--tracking", choices=("wandb", "none"), default="wandb",
                        help="also a wandb run, offline unless logged in (%(default)s)")  # fmt: skip
    args = parser.parse_args()
    out = args.out.expanduser()
    found = gather(args.runs.expanduser())
    files, _ = write_tables(found, out)
    page, lines = write_report(found, out)
    if args.tracking == "wandb":
        track(found, page, files, lines.append)
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB), and the tables: {', '.join(map(str, files))}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
