"""Write the tables, and a report as one HTML file:

python -m scripts.report
python -m scripts.report --runs FOLDER --out FOLDER
"""

import sys

from scripts.options import Parser, add_places, exit_code, out_of


def main() -> None:
    """Write both, and print the files."""
    parser = Parser(description="A report of all finished runs as one HTML file, and the tables.", allow_abbrev=False)
    add_places(parser)
    parser.add_argument("--tracking", choices=("wandb", "none"), default="wandb",
                        help="also a wandb run, offline unless logged in (%(default)s)")  # fmt: skip
    args = parser.parse_args()

    from adalora.progress.track_report import track
    from adalora.reporting.pages import gather
    from adalora.reporting.report import write_report
    from adalora.reporting.tables import write_tables

    out = out_of(args)
    found = gather(args.runs.expanduser())
    files = write_tables(found, out)
    page, lines = write_report(found, out)
    if args.tracking == "wandb":
        track(found, page, files, lines.append)
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB), and the tables: {', '.join(map(str, files))}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
