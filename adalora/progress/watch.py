"""Pass the loop's reports to log files, wandb and the terminal.

metrics.jsonl and ranks.jsonl only have values that repeat to the bit; times, speed and memory go to wandb.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from adalora.errors import Interrupted, UserError
from adalora.module_paths import target_grid
from adalora.planning.plan import Plan
from adalora.progress.heatmap import rank_figure
from adalora.progress.terminal import console
from adalora.progress.tracking import Log, Wandb
from adalora.records.provenance import peak_memory_mb
from adalora.records.published import applies, read_paper, scores, scores_of
from adalora.records.result import Result
from adalora.records.variant import Run, variant_of
from tasks.task_type import Samples

TOLD_EVERY = 30  # seconds between lines in a slow evaluation without a progress bar


class Speed(ProgressColumn):
    """A progress bar column: steps or rows per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g}/s" if task.speed else "")


class Watch:
    """A progress bar with loss, rank budget and remaining time; plain lines without a terminal.

    Args:
        plan: the run's plan.
        folder: the run folder, for the log files.
        wandb: the wandb run, if any.
        visible: whether this process writes and prints (only rank 0 does).
        tokens: the number of real tokens in a range of steps.
        device: the device whose peak memory is reported.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        wandb: Wandb | None,
        visible: bool,
        tokens: Callable[[int, int], int],
        device: torch.device,
    ) -> None:
        self.plan, self.wandb, self.visible, self.tokens, self.device = plan, wandb, visible, tokens, device
        self.total = plan.total_steps
        self.log, self.ranks = Log(folder / "metrics.jsonl"), Log(folder / "ranks.jsonl")
        self.clock = (0, time.monotonic())  # step and time at which speed measurement starts
        self.shown: Mapping[str, int] = {}  # ranks of the last heat map
        self.highest = 0  # highest rank so far: the common scale of the heat maps
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Speed(),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not (visible and console.is_terminal),
        )
        self.task = self.bar.add_task("training", total=self.total, what="")
        self.slow = self.bar.add_task("evaluating", total=None, what="", visible=False)
        self.reported = (0, time.monotonic())  # (rows, time) at the last progress line

    def __enter__(self) -> Self:
        self.bar.start()
        if self.wandb is not None:
            counts = self.plan.solution.counts
            self.wandb.summarise(slashed("parameters", asdict(counts) | {"total": counts.total}))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.wandb is not None:
            self.wandb.finish(exit_code(error))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self.visible:
            console.print(text, soft_wrap=True)

    def started(self, step: int, damaged: list[str], logged: Mapping[str, str]) -> None:
        for log in (self.log, self.ranks) if self.visible else ():
            if not log.start(step, logged.get(log.path.name)):
                self.say(f"{log.path} was damaged or changed: some of its lines up to step {step} are lost or altered")
        for name in damaged:
            self.say(f"checkpoint {name} is damaged: using the one before it")
        if step:
            self.say(f"resuming from the checkpoint of step {step}")
            self._replay()
        self.bar.reset(self.task, completed=step, total=self.total)  # time before this step doesn't count for the speed
        self.clock = (step, time.monotonic())

    def advanced(self, step: int) -> None:
        if not self.bar.disable:
            self.bar.update(self.task, completed=step)

    def logged(self) -> dict[str, str]:
        return {log.path.name: log.sha256 for log in (self.log, self.ranks)}

    def step(self, step: int, values: Mapping[str, float]) -> None:
        since, then = self.clock
        self.clock = (step, time.monotonic())
        speed = self.tokens(since, step) / max(self.clock[1] - then, 1e-9)
        self._write(step, values, {"speed/tokens_per_second": speed})
        what = f"loss {values['train/loss']:.3f}"
        if "allocation/budget" in values:
            what += f"  total rank {values['allocation/budget']:.0f}"
        if self.bar.disable:
            self.say(f"{self._at(step)}  {what}  lr {values['train/lr']:.2e}")
        self.bar.update(self.task, what=what)

    def evaluating(self, split: str, done: int, rows: int) -> None:
        now = time.monotonic()
        if done == 0:
            self.bar.reset(self.slow, total=rows)
            self.reported = (0, now)
        self.bar.update(self.slow, completed=done, what=f"{split} rows", visible=done < rows)
        before, then = self.reported
        if self.bar.disable and now - then > TOLD_EVERY and before < done < rows:
            left = (now - then) / (done - before) * (rows - done)
            self.say(f"evaluating {split}: {done}/{rows} rows, {left:.0f} s left")
            self.reported = (done, now)

    def evaluation(self, step: int, values: Mapping[str, float], ranks: Mapping[str, int]) -> None:
        self._write(step, slashed("eval", values), {"memory/peak_mb": peak_memory_mb(self.device)})
        if ranks and self.visible:
            self.ranks.write(step, ranks)
        self._heatmap(step, ranks)
        self.say(f"{self._at(step)}  " + "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
        self.clock = (step, time.monotonic())

    def finished(self, result: Result, samples: Samples | None) -> None:
        """After the last step, log the summary to wandb, and rows of text if there are any."""
        if self.wandb is None:
            return
        self.wandb.summarise(
            slashed("last", result.last)
            | slashed("best", result.best | {"step": result.best_step})
            | slashed("parameters", result.parameters)
            | {"memory/peak_mb": result.peak_memory_mb, "speed/seconds": result.seconds}
        )
        try:
            self.wandb.summarise(beside_paper(result.as_dict()))
        except UserError as error:
            self.say(f"no comparison with the paper in wandb: {error}")
        if rows := self._rank_rows():
            self.wandb.table(result.last_step, "ranks/over_time", ("step", "layer", "name", "module", "rank"), rows)
        if samples is not None:
            self.wandb.table(result.last_step, "samples/predictions", samples.columns, samples.rows)

    def _at(self, step: int) -> str:
        """The step, padded so that lines align."""
        return f"step {step:>{len(str(self.total))}}/{self.total}"

    def _write(self, step: int, values: Mapping[str, float], unrepeatable: Mapping[str, float]) -> None:
        if self.visible:
            self.log.write(step, values)
        if self.wandb is not None:
            self.wandb.log(step, {**values, **unrepeatable})

    def _replay(self) -> None:
        """Log the steps up to the checkpoint to wandb again: it writes to disk only every 15 seconds, so some may be
        lost, and an offline run replaces the previous one."""
        if self.wandb is None:
            return
        ranks = {line.pop("step"): line for line in self.ranks.lines()}
        for line in self.log.lines():
            step = line.pop("step")
            self.wandb.log(step, line)
            if any(name.startswith("eval/") for name in line):
                self._heatmap(step, ranks.get(step, {}))

    def _heatmap(self, step: int, ranks: Mapping[str, int]) -> None:
        """Log a heat map of the ranks to wandb if they have changed."""
        if self.wandb is None or not ranks or ranks == self.shown:
            return
        self.shown, self.highest = dict(ranks), max(self.highest, *ranks.values())
        title = f"ranks after step {step}"
        model, highest = self.plan.config.model, self.highest
        self.wandb.image(step, "ranks/heatmap", lambda: rank_figure(model, ranks, title, highest))

    def _rank_rows(self) -> list[tuple[int, int, str, str, int]]:
        """Step, layer, short name, path and rank of every module at every evaluation."""
        lines = self.ranks.lines()
        if not lines:
            return []
        columns, grid = target_grid(self.plan.config.model.targets, [name for name in lines[0] if name != "step"])
        return [
            (line["step"], layer, column, name, line[name])
            for line in lines
            for layer, row in enumerate(grid)
            for column, name in zip(columns, row, strict=True)
            if name is not None
        ]


def slashed(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values under `group/`."""
    return {f"{group}/{name}": value for name, value in values.items()}


def beside_paper(run: Run) -> dict[str, Any]:
    """The published number in percent, and the difference of our headline metric at the last step, in points.

    Empty if no published number applies: another backbone, other rows, another length than the recipe's, or a variant
    that isn't in a paper.
    """
    task = run["task"]
    if not applies(run["model"], task):
        return {}
    cells, row = scores(read_paper()), (run["method"]["name"], run["budget"]["name"], variant_of(run))
    ours = scores_of(run, "last")
    found = {name: cells.get((task["name"], name, *row)) for name in ours}
    values = {name: cell.value for name, cell in found.items() if cell is not None}
    headline = task["headline"]
    if headline in values:
        values["difference"] = round(ours[headline] - values[headline], 4)
    return slashed("paper", values)


def exit_code(error: BaseException | None) -> int:
    """The exit code that the process will have."""
    if isinstance(error, Interrupted):
        return 128 + error.signal
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 0 if error is None else 1
