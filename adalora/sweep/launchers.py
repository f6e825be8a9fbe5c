"""How a sweep launches its runs: Hydra's launchers, as overrides of one `train.py --multirun`."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Local:
    """Runs on this machine; they end with the sweep."""

    workers: int = 1  # runs at once

    def overrides(self, runs: int) -> list[str]:
        """For `runs` of them."""
        workers = min(self.workers, runs)
        return ["hydra/launcher=workers", f"hydra.launcher.n_jobs={workers}"] if workers > 1 else []


@dataclass(frozen=True)
class Slurm:
    """Each run is a SLURM job, which outlives the sweep."""

    options: Sequence[str] = ()  # options of conf/hydra/launcher/slurm.yaml, such as `partition=gpu`
    wait: bool = True  # wait for the jobs to end

    def overrides(self, runs: int) -> list[str]:
        """For `runs` of them."""
        return ["hydra/launcher=slurm", *(f"hydra.launcher.{option}" for option in self.options)]


Launcher = Local | Slurm
