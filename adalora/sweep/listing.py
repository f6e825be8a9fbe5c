"""`make list`: every cell with status, size, time and command."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from adalora.planning.speed import SHARE, gpu_here, rate
from adalora.sweep.cells import Cell
from adalora.sweep.estimate import Estimate
from adalora.sweep.status import CellStatus
from adalora.wording import duration


def listing(
    cells: Sequence[Cell],
    statuses: Mapping[str, CellStatus],
    estimate: Callable[[Cell], Estimate | str],
    left: Sequence[str],
) -> list[str]:
    """The lines of the list.

    Args:
        cells: the cells.
        statuses: their statuses, by cell id.
        estimate: from `estimator`.
        left: lines about what isn't among the cells.
    """
    lines = [f"{'status':<11} {'time':>9}   {'budget':>7} {'kept':>11}   command"]
    seconds: dict[str, float] = defaultdict(float)  # of cells that aren't done, by table
    flops: dict[str, float] = defaultdict(float)
    steps: Counter[str] = Counter()
    names: dict[str, Counter[str]] = {}
    estimates = []
    for cell in cells:
        status, cost = statuses[cell.id], estimate(cell)
        names.setdefault(cell.table, Counter())[status.name] += 1
        if isinstance(cost, str):
            lines.append(f"{status.name:<11} {'-':>9}   {'-':>7} {'-':>11}   {cell.command}   can't run: {cost}")
            continue
        estimates.append(cost)
        setting = cost.plan.solution
        steps[cell.table] += cost.plan.total_steps
        flops[cell.table] += cost.plan.cost.flops * cost.plan.total_steps
        if status.name != "done":
            seconds[cell.table] += cost.seconds
        remark = "; ".join(filter(None, [status.reason, status.remark]))
        rough = "" if cost.basis == "runs" else "~"
        lines.append(
            f"{status.name:<11} {duration(cost.seconds):>9}{rough:<2} {setting.budget:>7} "
            f"{setting.counts.kept:>11,}   {cell.command}" + (f"   ({remark})" if remark else "")
        )
    lines.append("")
    for table, counts in names.items():
        what = ", ".join(f"{count} {name}" for name, count in counts.items())
        petaflop = flops[table] / 1e15
        total = f"{petaflop:,.0f}" if petaflop >= 10 else f"{petaflop:.2g}"
        lines.append(
            f"{table}: {sum(counts.values())} cells ({what}); {steps[table]:,} steps, {total} PFLOP; "
            f"about {duration(seconds[table])} for what is not done, one after another"
        )
    planned = [cost for cost in estimates if cost.basis != "runs"]
    if len(planned) < len(estimates):
        lines.append("time: from finished runs of the same model, task and method on this machine")
    if planned:
        config = planned[0].plan.config
        where = source(config.precision, config.device, {cost.basis for cost in planned})
        lines.append(f"time~: {where}; evaluations not included")
    lines.extend(f"not expressed: {line}" for line in left)
    return lines


def source(precision: str, device: str, bases: set[str]) -> str:
    """What times come from that no finished run gives."""
    if gpu := gpu_here(device, precision):
        return f"results/bench/devices.yaml for {gpu.name} in {precision}, {' or '.join(sorted(bases))}"
    speed = rate(precision, device)
    reach = f"{speed / 1e9:,.0f} GFLOP/s that {precision} matrix products reach here now"
    return f"FLOPs at a task's mean length and {SHARE:.0%} of the {reach}"
