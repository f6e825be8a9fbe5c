"""Terminal output: the plan, and a table with the result."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from adalora.config.schema import Config, Resolved
from adalora.options import written
from adalora.planning.budget import Choice
from adalora.planning.plan import Plan
from adalora.planning.speed import Speed
from adalora.progress.heatmap import rank_table
from adalora.progress.tracking import destination
from adalora.wording import amount, counted, duration, memory, operations

console = Console(highlight=False, markup=False)  # paths and titles may contain brackets
if not console.is_terminal:
    console = Console(highlight=False, markup=False, width=120)  # width for log files

CHOICES = {
    Choice.BUDGET: "the budget's own size",
    Choice.USER: "set by method.*",
    Choice.RANK: "at the given mean rank",
    Choice.NEAREST: "the closest size",
}


def show_plan(plan: Plan, weights: str, speeds: Mapping[str, Speed] | None = None) -> None:
    """Print the plan: modules, counts, steps, phases, cost, and the hyperparameters' sources.

    Args:
        plan: the plan.
        weights: origin and digest of the weights.
        speeds: how long a step takes, by device.
    """
    config, counts = plan.config, plan.solution.counts
    method = config.method
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    params = config.budget.params or 0
    deviation = plan.solution.deviation
    table.add_row("model", f"{config.model.title}, {len(plan.shapes)} adapted modules")
    table.add_row("weights", weights)
    table.add_row("task", f"{config.task.title}, {plan.rows:,} training rows, up to {config.task.max_length} tokens")
    name = ", ".join(filter(None, [config.method.name, config.method.basis]))
    table.add_row("method", f"{name}: {method.describe()}")
    if deviation is not None:
        equal = " with equal ranks" if hasattr(method, "target_rank") else ""
        off = f" ({deviation:+.1%})" if abs(deviation) >= 0.0005 else ""
        table.add_row(
            "budget",
            f"{config.budget.name} = {params:,} adapter parameters; {counts.kept:,} at the end{equal}{off}, "
            f"{CHOICES[plan.solution.choice]}",
        )
    others = [f"{counts.head:,} head"]
    if counts.modules:
        others.append(f"{counts.modules:,} in {', '.join(config.model.train_modules)}")
    table.add_row(
        "trained", f"{counts.peak:,} adapter (peak) + {' + '.join(others)} (not in the budget) = {counts.total:,}"
    )
    every = config.training.eval_steps
    often = "after every step" if every == 1 else f"every {counted(every, 'step')} and at the end"
    evaluated = "after the last step" if every >= plan.total_steps else often
    training, epochs = config.training, plan.total_steps / plan.steps_per_epoch
    table.add_row(
        "training",
        f"{counted(plan.total_steps, 'step')} of {counted(training.batch_size, 'row')} "
        f"({amount(epochs, 3)} {'epoch' if epochs == 1 else 'epochs'}), lr {training.lr:g}, "
        f"{training.schedule}, warm-up {counted(training.warmup_steps, 'step')}, "
        f"weight decay {training.weight_decay:g}, evaluation {evaluated}, {config.precision}, seed {config.seed}",
    )
    if phases := method.phases(plan.shapes, plan.total_steps):
        table.add_row("phases", phases)
    recipe = config.recipe
    own, shared = recipe.values.get("source", {}), recipe.values.get("protocol", {})
    if recipe.source is None and recipe.protocol is None:
        table.add_row("recipe", "the suite's defaults: nothing is published for this model, task and method")
    else:
        table.add_row("recipe", recipe.name)
        for line in (
            *stated("method", own, recipe.source),
            *stated("training", {key: shared[key] for key in shared.keys() - own.keys()}, recipe.protocol),
        ):
            table.add_row("", line)
    if plan.departures:
        parts = [f"{key}={written(now)} (recipe: {written(value)})" for key, (value, now) in plan.departures.items()]
        table.add_row("differs", ", ".join(parts))
    cost = plan.cost
    table.add_row(
        "cost",
        f"about {operations(cost.flops)} a step at the mean length of {cost.mean_tokens:.0f} tokens, "
        f"{operations(cost.flops * plan.total_steps)} in total",
    )
    if speeds:
        now = "" if speeds["here"].basis != "guessed" else ", from the machine's speed at this moment"
        times = [
            f"{duration(each.seconds * plan.total_steps)} {name} ({each.basis}{now if name == 'here' else ''})"
            for name, each in speeds.items()
        ]
        table.add_row("time", f"about {', '.join(times)}; without evaluations")
    table.add_row(
        "memory",
        f"about {memory(cost.memory)} of tensors at most, with {cost.tokens} tokens in every row; libraries and data "
        "come on top",
    )
    table.add_row("logging", destination(config))
    for note in plan.notes:
        table.add_row("note", note)
    console.print(table)


def stated(what: str, values: Mapping[str, Any], source: str | None) -> tuple[str, ...]:
    """Two lines: the source of a recipe's values, and the values."""
    if source is None:
        return (f"{what}: nothing published, the suite's defaults",)
    texts = [f"{key.rpartition('.')[2]}={written(values[key])}" for key in sorted(values)]
    return f"{what}: {source}", f"  {', '.join(texts)}"


def show_result(result: Mapping[str, Any], config: Config | Resolved, folder: Path) -> None:
    """Print the result: metrics, parameters, ranks, paths, and commands to try next."""
    parameters = result["parameters"]
    table = Table(box=None)
    for column in ("", "last", "best"):
        table.add_column(column, justify="left" if not column else "right", overflow="fold")
    table.add_row("step", str(result["last_step"]), str(result["best_step"]), style="dim")
    for name, value in result["last"].items():
        style = "bold" if name == result["task"]["headline"] else None
        best = result["best"].get(name)
        table.add_row(name, f"{value:.4f}", "" if best is None else f"{best:.4f}", style=style)
    facts = Table(box=None, show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("adapter", f"{parameters['peak']:,} trained (peak), {parameters['kept']:,} at the end")
    facts.add_row("head", f"{parameters['head']:,} (trained, not in the budget)")
    if modules := parameters.get("modules"):
        facts.add_row("modules", f"{modules:,} (task.train_modules, not in the budget)")
    facts.add_row("total", f"{parameters['total']:,} trained")
    rows = ", ".join(f"{split} {count:,}" for split, count in result["task"]["rows"].items())
    subset = " (NOT the official row counts)" if result["task"]["subset"] else ""
    facts.add_row("data", f"{result['task']['origin']}: {rows}{subset}")
    if not result["model"]["comparable"]:
        facts.add_row("note", f"{result['model']['title']}: the paper's numbers don't apply")
    whose = "the process" if result["hardware"]["device"] == "cpu" else "tensors on the GPU"
    peak = memory(result["peak_memory_mb"] * 2**20)
    facts.add_row("time", f"{duration(result['seconds'])}; peak memory {peak}, of {whose}")
    title = Text(f"\n{config.method.name} on {config.task.title}, {result['model']['title']}", style="bold")
    parts: list[Any] = [title, table, facts, ""]
    if len(set(result["ranks"].values())) > 1:
        parts.append(rank_table(config.model, result["ranks"]))
    console.print(Group(*parts))
    console.print(f"folder  {folder}", soft_wrap=True)  # whole, however narrow the terminal, as it may be copied
    for command in following(result["command"][1:], config.method.name):
        console.print(f"next    {command}", soft_wrap=True)


def say(line: str) -> None:
    """Print a line without wrapping it."""
    console.print(line, soft_wrap=True)


def following(overrides: Sequence[str], method: str) -> list[str]:
    """Commands to try next: the same run with another method, and both with three seeds."""
    same = [text for text in overrides if not re.match(r"\+*method[=.]", text)]
    unseeded = [text for text in same if not text.startswith("seed=")]
    other = "lora" if method == "adalora" else "adalora"
    several = [*unseeded, f"method={method},{other}", "seed=1,2,3"]
    program = started_as(sys.argv[0])
    return [
        f"{program} {shlex.join([*same, f'method={other}'])}",
        f"{program} --multirun {shlex.join(several)}",
    ]


def started_as(script: str) -> str:
    """How train.py was started, so that a command runs where it is printed."""
    return f"python {shlex.quote(script) if Path(script).name == 'train.py' else 'train.py'}"
