"""The exceptions that end a run in an orderly way."""

BUSY = 75  # exit code if another process is working on the run (EX_TEMPFAIL)


class UserError(Exception):
    """A problem that the user can fix. The message names it and the remedy.

    `train.py` prints it as one line and exits with 1; `debug=true` adds the traceback.
    """


class Busy(UserError):
    """Another process is working on the same run."""


class Terminated(KeyboardInterrupt):
    """SIGTERM to a sweep, which ends it as Ctrl-C does."""


class LostProcess(UserError):
    """Another process of the same run ended: the same command resumes from the last checkpoint."""


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or a scheduler's signal. A checkpoint of `step` was saved, and the same command resumes."""

    def __init__(self, step: int, signal: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step, self.signal = step, signal
