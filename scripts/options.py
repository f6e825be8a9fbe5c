"""What the scripts' command lines share."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Mistakes are one line, as everywhere in the suite."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with 1."""
        self.exit(1, f"error: {message} (--help shows the options)\n")
