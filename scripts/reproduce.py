"""Run a published table, or a study, from one command:

python -m scripts.reproduce list glue
python -m scripts.reproduce list glue --only "task=rte method=adalora" --format table
python -m scripts.reproduce list glue --format commands model=deberta_minilm training.max_steps=100
python -m scripts.reproduce run glue --seeds 1,2,3 --workers 2
python -m scripts.reproduce run pocket --workers 2
python -m scripts.reproduce page pocket
python -m scripts.reproduce watch

Options of train.py may follow anywhere; they apply to all cells.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import NamedTuple

from adalora.errors import UserError
from adalora.options import key_of
from adalora.records.result import MACHINE
from adalora.records.studies import Study, read_studies
from adalora.sweep.cells import cells_of, command, extend, select
from adalora.sweep.settings import TABLES, Setting, published
from adalora.sweep.slurm import Slurm
from scripts.options import Parser, exit_code, is_option


def heavy() -> None:
    """Import what plans need while other processes compose."""
    import adalora.sweep.estimate  # noqa: F401


class Wanted(NamedTuple):
    """The cells of a table or study."""

    settings: list[Setting]
    left: list[str]  # a line for each printed row that can't be expressed
    seeds: list[int]  # default seeds
    study: Study | None = None
    records: Path | None = None  # folder of a study's records


def find_cells(what: str) -> Wanted:
    """Find a table or study. Raises `UserError` if there is none of that name, or it can't be read."""
    if what in (*TABLES, "all"):
        return Wanted(*published(what), [1, 2, 3, 4, 5])
    studies = read_studies()
    if what in studies:
        study, grid = studies[what], studies[what].grids[what]
        settings = [Setting(what, tuple(cell)) for cell in grid.cells()]
        return Wanted(settings, [], grid.seeds, study, study.records(what))
    raise UserError(f"WHAT={what}: allowed are {', '.join((*TABLES, *studies))}, all (the papers' tables)")


def show_list(args: argparse.Namespace) -> None:
    """Print a summary of the cells, or every cell."""
    asked = find_cells(args.what)
    settings, seeds = select(asked.settings, args.only), args.seeds or asked.seeds
    if args.format == "commands":
        cells_of(settings[:1], seeds[:1], args.overrides)  # a mistake in the options is said here, too
        for seed in seeds:
            for overrides in dict.fromkeys(extend(setting, args.overrides) for setting in settings):
                print(command([*overrides, f"seed={seed}"]))
        return
    cells, refused = cells_of(settings, seeds, args.overrides, heavy)

    from adalora.sweep.estimate import estimator
    from adalora.sweep.listing import Row, listing, summary
    from adalora.sweep.status import statuses

    root = Path(cells[0].config.run_root).expanduser()
    found, estimate = statuses(root, {cell.id: None for cell in cells}, asked.records), estimator(root)
    rows, left = [Row(cell, found[cell.id], estimate(cell)) for cell in cells], asked.left + refused
    print("\n".join(listing(rows, left) if args.format == "table" else summary(rows, left, args.what)))


def run(args: argparse.Namespace) -> int:
    """Run every cell that is not done, then write the tables."""
    if args.launcher == "workers" and (args.slurm or args.detach):
        raise UserError("SLURM= and DETACH= are for jobs: add LAUNCHER=slurm")
    if args.launcher == "slurm" and args.workers > 1:
        raise UserError("WORKERS= is for this machine: with LAUNCHER=slurm give SLURM='array_parallelism=2'")
    launcher = Slurm(args.slurm.split(), not args.detach) if args.launcher == "slurm" else args.workers
    if isinstance(launcher, Slurm):
        check(launcher)
    asked = find_cells(args.what)
    if asked.records and args.out:
        raise UserError(f"--out is for a paper's tables: the pages of {args.what} are written beside its records")
    settings, seeds = select(asked.settings, args.only), args.seeds or asked.seeds
    cells, refused = cells_of(settings, seeds, args.overrides, heavy)
    if asked.records and (others := [text for text in args.overrides if key_of(text) not in MACHINE]):
        planned, _ = cells_of(settings, seeds, [text for text in args.overrides if text not in others])
        if {cell.id for cell in cells} - {cell.id for cell in planned}:
            print(f"not recorded: with {' '.join(others)} these aren't runs of {args.what}")
            asked = asked._replace(study=None, records=None)

    if cells[0].config.dry_run:
        raise UserError(f"dry_run=true runs nothing: make list WHAT={args.what} shows what there is to run")

    from adalora.sweep.sweep import sweep

    def report(root: Path) -> tuple[list[Path], list[str]]:
        from adalora.reporting.pages import gather
        from adalora.reporting.study import write_pages
        from adalora.reporting.tables import write_tables

        if asked.study:
            return write_pages(asked.study.folder)
        findings = gather(root)
        return write_tables(findings, Path(args.out or root.parent / "tables").expanduser()), list(findings.warnings)

    return sweep(cells, asked.left + refused, launcher, report, asked.records)


def show_page(args: argparse.Namespace) -> None:
    """Write a study's pages from its records, without running anything."""
    if args.overrides:
        raise UserError(f"{args.overrides[0]}: page takes no options: it is made from the records")
    asked = find_cells(args.what)
    if asked.study is None:
        raise UserError(f"WHAT={args.what}: only a study has pages of its own: {', '.join(read_studies())}")

    from adalora.reporting.study import write_pages

    files, lines = write_pages(asked.study.folder)
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)
    print(", ".join(map(str, files)))


def check(slurm: Slurm) -> None:
    """Reject SLURM where it can't work. Raises `UserError`."""
    if find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        raise UserError("LAUNCHER=slurm needs hydra-submitit-launcher: pip install -e '.[launchers]'")
    if which("sbatch") is None:
        raise UserError("LAUNCHER=slurm: there is no sbatch here; run it on a login node of the cluster")
    for option in slurm.options:
        if "=" not in option:
            raise UserError(f"SLURM={option}: give options of conf/hydra/launcher/slurm.yaml, as SLURM='partition=gpu'")


def show_watch(args: argparse.Namespace) -> None:
    """Show the newest sweep."""
    from adalora.sweep.live import watch

    watch(Path(args.runs).expanduser())


def seeds(text: str) -> list[int]:
    """`1,2,3` as numbers."""
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give seeds as 1,2,3") from None


def workers(text: str) -> int:
    """Parse the number of concurrent runs."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give the number of runs at once, as 2")
    return int(text)


def parser() -> Parser:
    """The options."""
    top = Parser(
        description="List the cells of published tables and studies, and run those that aren't done.",
        allow_abbrev=False,
    )
    verbs = top.add_subparsers(dest="verb", required=True, parser_class=Parser)
    listed = verbs.add_parser("list", help="what there is to run: cells, done, time left", allow_abbrev=False)
    listed.add_argument(
        "--format",
        choices=("summary", "table", "commands"),
        default="summary",
        help="summary: one line per task and method; table: one line per cell; commands: train.py lines only",
    )
    listed.set_defaults(act=show_list)
    ran = verbs.add_parser("run", help="run what isn't done, then write the tables", allow_abbrev=False)
    ran.add_argument("--workers", type=workers, default=1, help="runs at once (default 1)")
    ran.add_argument("--launcher", choices=("workers", "slurm"), default="workers", help="slurm: every run a job")
    ran.add_argument("--slurm", default="", help="options of conf/hydra/launcher/slurm.yaml, as 'partition=gpu'")
    ran.add_argument("--detach", action="store_true", help="with slurm: end when all is submitted")
    ran.add_argument("--out", help="folder for a paper's tables (tables, beside the runs)")
    ran.set_defaults(act=run)
    watched = verbs.add_parser("watch", help="show the newest sweep while it runs", allow_abbrev=False)
    watched.add_argument("--runs", default="results/runs", help="folder of runs (default results/runs)")
    watched.set_defaults(act=show_watch)
    paged = verbs.add_parser("page", help="write a study's pages from its records", allow_abbrev=False)
    paged.set_defaults(act=show_page)
    for verb in (listed, ran, paged):
        verb.add_argument("what", help=f"{', '.join(TABLES)}, all, or a study's grid")
    for verb in (listed, ran):
        verb.add_argument("--only", default="", help="options that cells must have, as 'task=rte,mrpc method=adalora'")
        verb.add_argument("--seeds", type=seeds, help="as 1,2,3 (default 1,2,3,4,5, or the study's)")
    return top


def main() -> int | None:
    """Parse the command line and run the command."""
    options = parser()
    args, overrides = options.parse_known_args()
    args.overrides = overrides
    if unknown := [text for text in overrides if text.startswith("-") or not is_option(text)]:
        options.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args.act(args)


if __name__ == "__main__":
    sys.exit(exit_code(main, "stopped: the same command resumes"))
