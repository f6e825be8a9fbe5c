"""Shared parts of the scripts' command lines."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from adalora.errors import Terminated, UserError


class Parser(argparse.ArgumentParser):
    """A parser that reports mistakes in one line, as everywhere in the suite."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with 1."""
        self.exit(1, f"error: {message} (--help shows the options)\n")


def is_option(text: str) -> bool:
    """Whether an argument is an option of train.py: `name=value`, or `~name`, which leaves one out."""
    return ("=" in text and not Path(text).is_dir()) or (text.startswith("~") and "/" not in text)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add `--runs` and `--out`."""
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="folder of runs (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder to write to (tables, beside the folder of runs)")


def out_of(args: argparse.Namespace) -> Path:
    """The folder to write to."""
    runs = args.runs.expanduser()
    return args.out.expanduser() if args.out else runs.parent / "tables"


def exit_code(main: Callable[[], int | None], stopped: str = "stopped, nothing is half written") -> int:
    """Run a script. A mistake is one line and exit code 1, Ctrl-C one line and 130; a closed pipe is no error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a title's characters
    try:
        code = main() or 0
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end of the process
        return 0
    except KeyboardInterrupt as error:
        print(f"\n{stopped}", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
