"""Write tables of all finished runs, next to the published numbers of the same variants:

python -m scripts.tables
python -m scripts.tables --runs FOLDER --out FOLDER
"""

import sys

from scripts.options import Parser, add_places, exit_code, out_of


def main() -> None:
    """Print what was run, write the tables, and print the files."""
    parser = Parser(
        description="Tables of all finished runs, beside the published numbers of the same variants.",
        allow_abbrev=False,
    )
    add_places(parser)
    args = parser.parse_args()

    from adalora.reporting.pages import gather
    from adalora.reporting.tables import shown, write_tables

    findings = gather(args.runs.expanduser())
    files = write_tables(findings, out_of(args))
    print(shown(findings), end="\n\n")
    for line in findings.warnings:
        print(f"warning: {line}", file=sys.stderr)
    skipped = f" ({len(findings.skipped)} result.json skipped)" if findings.skipped else ""
    print(f"{', '.join(map(str, files))}{skipped}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
