"""A Hydra sweeper for an explicit list of runs: `hydra/sweeper=cells hydra.sweeper.file=FILE`.

It is here because Hydra only finds plugins in the namespace package `hydra_plugins`.
"""

from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from adalora.sweep.queue import read_cells


class CellSweeper(Sweeper):
    """Launch the runs listed in a file, in order.

    Args:
        file: JSON, a list of runs, each with its `overrides`. The command line's overrides are added to every run.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run them all. Raises `UserError` if the file isn't a list of runs."""
        assert self.launcher is not None
        batch = [[*run.overrides, *arguments] for run in read_cells(self.file)]
        return [self.launcher.launch(batch, initial_job_idx=0)]
