"""Train one cell of a table, or sweep many:

python train.py task=rte budget=0.3M method=adalora
python train.py --multirun budget=0.3M,0.6M,1.2M seed=1,2,3,4,5
"""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from adalora.config import register
from adalora.errors import Interrupted, UserError

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # repeatable products on a GPU
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(tree: DictConfig) -> float | None:
    """Run one experiment and return its headline metric."""
    from adalora.run import run  # torch and transformers: not for --help or a typing mistake

    try:
        return run(tree, HydraConfig.get().overrides.task)
    except UserError as error:
        if tree.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as stop:
        print(f"\n{stop}: the same command goes on from there", file=sys.stderr)
        sys.exit(128 + stop.signal)


if __name__ == "__main__":
    main()
