"""Signals that ask a run to stop. Imports no torch."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SCHEDULER = (signal.SIGUSR1, signal.SIGUSR2)  # submitit listens to one of them, before preemption and the time limit


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and what a scheduler sends, so that the step in hand ends first; a second Ctrl-C ends at
    once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    handled = [signal.SIGINT, signal.SIGTERM, *(number for number in SCHEDULER if callable(signal.getsignal(number)))]
    before = {number: signal.signal(number, note) for number in handled}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hand_on(number: int) -> None:
    """Let the scheduler's own handler have its signal, now that all is saved: submitit's requeues the job and exits."""
    handler = signal.getsignal(number)
    if number in SCHEDULER and callable(handler):
        handler(number, None)
