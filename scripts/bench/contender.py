"""One side of a benchmark as a process, started in the measured checkout: reads and answers lines of JSON.

{"side": "ours", "method": "adalora", ...}          build it; the answer describes it
{"do": "step", "lengths": [31, 40, 38]}             one optimizer step on rows of these lengths
{"do": "operations", "lengths": [...]}              one step, counting its dispatched operations
{"do": "generate", "lengths": [...]}                generate summaries of documents of these lengths
{"do": "rate"}                                      FLOP/s of products of the FFN's shape
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from torch import nn

from adalora.records.provenance import commit, hardware, versions
from scripts.bench.side import Side
from scripts.bench.summarizer import Summarizer


def main() -> None:
    """Answer until stdin closes."""
    out, sys.stdout = sys.stdout, sys.stderr  # libraries' output isn't an answer
    spec: dict[str, Any] = json.loads(sys.stdin.readline())
    if "limit_mib" in spec:  # limit memory, so that only this process fails
        resource.setrlimit(resource.RLIMIT_DATA, (spec["limit_mib"] << 20,) * 2)
    side = Summarizer(spec) if spec.get("task") == "xsum" else Side(spec)
    facts: dict[str, Any] = {"hardware": hardware(side.device), "versions": versions(), "commit": commit(Path.cwd())}
    modules = [m for m in side.model.modules() if isinstance(m, nn.Linear) and not m.weight.requires_grad]
    facts["frozen"] = sum(m.weight.numel() for m in modules)
    answers = [facts | {"trained": sum(p.numel() for p in side.trained)}]
    while True:
        print(json.dumps(answers.pop()), file=out, flush=True)
        if not (line := sys.stdin.readline()):
            return
        answers.append(side.answer(json.loads(line)))


if __name__ == "__main__":
    main()
