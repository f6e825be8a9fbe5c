"""What the tests share: tiny real models and rows written for them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden():
    """`golden("adalora_a")`: the recorded arrays and their configuration."""

    def load(name: str):
        arrays = np.load(GOLDEN / f"{name}.npz")
        return arrays, json.loads(str(arrays["config"]))

    return load
