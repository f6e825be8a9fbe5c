"""Print the estimate of a step's memory and the growth of this process in bytes: python -m tests.planning.peak OPTIONS.

The model has random weights of SmolLM2's shape.
"""

import json
import resource
import sys

import psutil
import torch

from adalora.backbones.load import DTYPES, architecture, model_class
from adalora.planning.plan import make_plan
from adalora.sweep.cells import compose
from adalora.training.build import adapt
from adalora.training.optimizer import build_optimizer
from tasks.discovery import create

config = compose(sys.argv[1:])
plan = make_plan(config, {"train": 100, "validation": 10})
config, before = plan.config, psutil.Process().memory_info().rss
torch.set_default_dtype(DTYPES[config.model.dtype])
model = model_class(config.model)(architecture(config.model, 0)).train()
torch.set_default_dtype(torch.float32)
method = adapt(model, config)
optimizer = build_optimizer(model, method, config.training)
ids = torch.randint(0, 49152, (config.training.batch_size, config.task.max_length))
batch = {"input_ids": ids, "labels": ids.roll(-1, 1)}
for t in range(2):
    with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
        loss, _ = create(config.task).loss(model, batch)
    (loss + method.regulariser()).backward()
    optimizer.step()
    method.after_step(t)
    optimizer.zero_grad()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([plan.cost.memory, peak - before]))
