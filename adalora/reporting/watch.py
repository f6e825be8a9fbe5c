"""The loop's reports, handed to the log file, wandb and the terminal."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adalora.reporting.terminal import console
from adalora.tracking import Log


class Watch:
    """A progress bar with loss, rank budget and time left; plain lines where there is no terminal."""

    def __init__(self, total: int, log: Log, wandb_run: Any | None, visible: bool) -> None:
        self.total, self.log, self.wandb, self.visible = total, log, wandb_run, visible
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not (visible and console.is_terminal),
        )
        self.task = self.bar.add_task("", total=total, what="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.wandb is not None:
            self.wandb.finish(exit_code=1 if kind else 0)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.visible:
            console.print(text)

    def started(self, step: int, damaged: list[str]) -> None:
        if self.visible:
            self.log.start(step)
        for name in damaged:
            self.say(f"checkpoint {name} is damaged: using the one before it")
        if step:
            self.say(f"going on from the checkpoint of step {step}")
        self.bar.update(self.task, completed=step)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        self._write(step, values)
        what = f"loss {values['train/loss']:.3f}"
        if "allocation/budget" in values:
            what += f"  ranks {values['allocation/budget']:.0f}"
        if self.bar.disable:
            self.say(f"step {step}/{self.total}  {what}  lr {values['train/lr']:.2e}")
        self.bar.update(self.task, completed=step, what=what)

    def evaluation(self, step: int, values: Mapping[str, float], ranks: Mapping[str, int]) -> None:
        self._write(step, {f"eval/{name}": value for name, value in values.items()})
        self.say(f"step {step}: " + "  ".join(f"{name} {value:.4f}" for name, value in values.items()))

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self.visible:
            self.log.write(step, values)
        if self.wandb is not None:
            self.wandb.log(dict(values), step=step)
