"""`make list`: the cells of tables and studies, as a summary or one by one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adalora.planning.speed import SHARE, gpu_here, rate
from adalora.sweep.cells import Cell
from adalora.sweep.estimate import Estimate
from adalora.sweep.status import CellStatus
from adalora.wording import counted, duration, operations

LONG = 7 * 86400  # seconds: what takes longer here is for another machine


@dataclass(frozen=True)
class Row:
    """A cell with its status and cost, or why it can't run."""

    cell: Cell
    status: CellStatus
    cost: Estimate | str

    @property
    def left(self) -> float:
        """Seconds until it is done."""
        return 0.0 if self.status.name == "done" or isinstance(self.cost, str) else self.cost.seconds


def listing(rows: Sequence[Row], left: Sequence[str]) -> list[str]:
    """Every cell with its command, and the totals. `left` has a line for each printed row that isn't among them."""
    lines = [f"{'status':<11} {'time':>9} {'budget':>7} {'kept':>13}   command"]
    for row in rows:
        status = row.status.name
        if isinstance(row.cost, str):
            lines.append(f"{status:<11} {'-':>9} {'-':>7} {'-':>13}   {row.cell.command}   can't run: {row.cost}")
            continue
        setting = row.cost.plan.solution
        remark = "; ".join(filter(None, [row.status.reason, row.status.remark]))
        lines.append(
            f"{status:<11} {duration(row.cost.seconds):>9} {setting.budget:>7} {setting.counts.kept:>13,}   "
            f"{row.cell.command}" + (f"   ({remark})" if remark else "")
        )
    return [*lines, "", *totals(rows), *times(rows), *(f"not among them: {line}" for line in left)]


def summary(rows: Sequence[Row], left: Sequence[str], what: str) -> list[str]:
    """One line per task and method, and the totals. `what` is the WHAT of the list."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        config = row.cell.config
        groups.setdefault((row.cell.table, config.task.name, config.method.name), []).append(row)
    table = [("task", "method", "budgets", "cells", "done", "left", "")]
    for (_, task, method), found in groups.items():
        plans = [row.cost.plan for row in found if not isinstance(row.cost, str)]
        budgets = dict(sorted((plan.solution.params, plan.solution.budget) for plan in plans)).values()
        counts = Counter(row.status.name for row in found)
        besides = [f"{count} {name}" for name, count in counts.items() if name not in ("done", "missing")]
        besides += [f"{len(found) - len(plans)} can't run"] if len(plans) < len(found) else []
        left_here = duration(sum(row.left for row in found)) if counts["done"] < len(plans) else "-"
        sizes = ", ".join(dict.fromkeys(budgets))
        cells, done = str(len(found)), str(counts["done"])
        table.append((task, method, sizes, cells, done, left_here, ", ".join(besides)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines += ["", *totals(rows), *times(rows)]
    seeds = {row.cell.config.seed for row in rows}
    if len(seeds) > 1 and any(row.left for row in rows):
        first = min(seeds)
        one = sum(row.left for row in rows if row.cell.config.seed == first)
        lines.append(f"one seed alone: about {duration(one)} (SEEDS={first})")
    lines.append(f"every cell with its command: make list WHAT={what} FORMAT=table")
    if left:
        lines.append(f"{counted(len(left), 'printed row')} can't be run here: FORMAT=table says which")
    return lines


def totals(rows: Iterable[Row]) -> list[str]:
    """One line per table or study: cells by status, steps, operations, time."""
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(row.cell.table, []).append(row)
    lines = []
    for name, found in tables.items():
        plans = [row.cost.plan for row in found if not isinstance(row.cost, str)]
        counts = Counter(row.status.name for row in found)
        what = ", ".join(f"{count} {status}" for status, count in counts.items())
        flops = sum(plan.cost.flops * plan.total_steps for plan in plans)
        lines.append(
            f"{title(name)}: {counted(len(found), 'cell')} ({what}); "
            f"{counted(sum(plan.total_steps for plan in plans), 'step')}, {operations(flops)}; "
            f"about {duration(sum(row.left for row in found))} left, one run after another"
        )
    return lines


def title(table: str) -> str:
    """A table's name in words: AdaLoRA-T1 is Table 1 of the AdaLoRA paper."""
    paper, _, number = table.rpartition("-T")
    return f"Table {number} of the {paper} paper" if number.isdecimal() else table


def times(rows: Sequence[Row]) -> list[str]:
    """Where the times come from."""
    costs = [row.cost for row in rows if not isinstance(row.cost, str)]
    planned = [cost for cost in costs if cost.basis != "runs"]
    lines = []
    if len(planned) < len(costs):
        lines.append("times from finished runs of the same model, task and method on this machine")
    if planned:
        config = planned[0].plan.config
        where = source(config.precision, config.device, {cost.basis for cost in planned})
        other = "other times" if lines else "times"
        lines.append(f"{other} guessed from {where}; without evaluations")
    if sum(row.left for row in rows) > LONG:
        lines.append("docs/gpu.md has the hours on GPUs")
    return lines


def source(precision: str, device: str, bases: set[str]) -> str:
    """What times come from that no finished run gives."""
    if gpu := gpu_here(device, precision):
        return f"results/bench/devices.yaml for {gpu.name} in {precision} ({' or '.join(sorted(bases))})"
    speed = operations(rate(precision, device))
    return f"FLOPs at a task's mean length and {SHARE:.0%} of the {speed}/s that {precision} products reach here now"
