"""Signals that stop a run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SCHEDULER = (signal.SIGUSR1, signal.SIGUSR2)  # submitit uses one of them before preemption and the time limit


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Catch SIGINT, SIGTERM and a scheduler's signals, so that the current step finishes first. A second Ctrl-C ends at
    once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, *SCHEDULER)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hand_on(number: int) -> None:
    """Pass the signal on to the scheduler's own handler after saving: submitit's requeues the job and exits."""
    handler = signal.getsignal(number)
    if number in SCHEDULER and callable(handler):
        handler(number, None)
