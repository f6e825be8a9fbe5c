"""A run in several processes: `torchrun --nproc-per-node=2 tests/run_in_parallel.py OVERRIDES`.

As adalora.run.run, without the lock on the run's folder, which one process alone can hold.
"""

import sys
from pathlib import Path

import hydra
import torch

from adalora.config import register, validated
from adalora.run import execute, prepare

if __name__ == "__main__":
    torch.set_num_threads(1)
    register()
    with hydra.initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
        config = validated(hydra.compose("config", overrides=sys.argv[1:]))
    prepared = prepare(config, "-")
    prepared.accelerator.print(f"{prepared.accelerator.num_processes} processes")
    prepared.folder.path.mkdir(parents=True, exist_ok=True)
    execute(**vars(prepared), command=sys.argv)
    prepared.accelerator.end_training()
