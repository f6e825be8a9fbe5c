"""Alternating contenders: each has its own process, and only one computes at a time."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from adalora.errors import UserError
from adalora.paths import ROOT

CONTENDER = "scripts.bench.contender"


class Contender:
    """A connection to contender.py, run from `checkout`."""

    def __init__(self, name: str, spec: Mapping[str, Any], checkout: Path = ROOT) -> None:
        if not (checkout / "scripts/bench/contender.py").is_file():
            raise UserError(f"{checkout} has no scripts/bench/contender.py: give a checkout that has the benchmark")
        self.name = name
        # an unread pipe would fill up and block the process
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", CONTENDER], cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.said, text=True,
        )  # fmt: skip
        self.send(spec)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The description that the process sends when it is ready."""
        return self.receive()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for the answer. Raises `UserError` as in `receive`."""
        _ = self.facts  # the previous answer
        self.send(question)
        return self.receive()

    def send(self, line: Mapping[str, Any]) -> None:
        """Write a line."""
        assert self.process.stdin
        with suppress(BrokenPipeError):  # `receive` reports why
            self.process.stdin.write(json.dumps(dict(line)) + "\n")
            self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for an answer.

        Raises:
            UserError: the process ended, for example out of memory.
        """
        assert self.process.stdout
        try:
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError) as error:
            code = self.process.wait()
            self.said.seek(0)
            said = (self.said.read().strip().splitlines() or ["no output"])[-1]
            raise UserError(f"{self.name} exited with code {code}: {said}") from error

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self.said.close()


@contextmanager
def contenders(specs: Mapping[str, tuple[Mapping[str, Any], Path]]) -> Iterator[dict[str, Contender]]:
    """Start all contenders and wait until they are ready."""
    with ExitStack() as stack:
        found = {}
        for name, (spec, checkout) in specs.items():
            found[name] = Contender(name, spec, checkout)
            stack.callback(found[name].close)
        for contender in found.values():
            _ = contender.facts
        yield found
