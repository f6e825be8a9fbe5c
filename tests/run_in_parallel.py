"""A run in several processes: `torchrun --nproc-per-node=2 tests/run_in_parallel.py OVERRIDES`.

As adalora.run.run, without the lock on the run's folder, which one process alone can hold.
"""

import sys
from pathlib import Path

import hydra
import torch

from adalora.config import register, validated
from adalora.plan import make_plan
from adalora.run import build_accelerator, execute, gather
from adalora.runfolder import RunFolder, run_key

if __name__ == "__main__":
    torch.set_num_threads(1)
    register()
    with hydra.initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
        config = validated(hydra.compose("config", overrides=sys.argv[1:]))
    weights, data = gather(config)
    plan = make_plan(config, data.rows, {item.partition("=")[0] for item in sys.argv[1:]}, weights.folder)
    accelerator = build_accelerator(plan.config)
    accelerator.print(f"{accelerator.num_processes} processes")
    key = run_key(plan.config, plan.total_steps, data.digest, weights.digest)
    folder = RunFolder(plan.config, plan.setting.budget, key, "-", plan.total_steps)
    folder.path.mkdir(parents=True, exist_ok=True)
    execute(plan, weights, data, folder, accelerator)
    accelerator.end_training()
