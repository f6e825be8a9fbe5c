"""The exceptions that end a run in an orderly way."""


class UserError(Exception):
    """Something the user can put right: the message names the thing and the remedy.

    `train.py` prints it as one line and exits with 1; `debug=true` adds the traceback.
    """


class Busy(UserError):
    """Another process is at work on the same run."""


class LostProcess(UserError):
    """Another process of the same run ended: the same command goes on from the last checkpoint."""


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or a scheduler's signal: a checkpoint of `step` is written, and the same command goes on."""

    def __init__(self, step: int, signal: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step, self.signal = step, signal
