"""Write a model card: training, scores, and how to load the model."""

import json
from typing import Any

from adalora.config.schema import Resolved
from adalora.export.trained import Trained

LOADING = {
    "peft": """from peft import PeftModel
from transformers import AutoConfig, {auto}

config = AutoConfig.from_pretrained("{out}")
base = {auto}.from_pretrained("{base}", config=config, dtype="float32")
model = PeftModel.from_pretrained(base, "{out}").eval()""",
    "merged": """from transformers import AutoTokenizer, {auto}

model = {auto}.from_pretrained("{out}").eval()
tokenizer = AutoTokenizer.from_pretrained("{out}")""",
    "card": """from pathlib import Path

from adalora.export.trained import load_run

model = load_run(Path("{out}")).model  # of this run's folder""",
}
PACKAGED = """from peft import PeftModel

from adalora.backbones.load import load_model, locate
from adalora.config import register, validate
from hydra import compose, initialize_config_dir

register()
with initialize_config_dir("/path/to/the/suite/conf", version_base="1.3"):
    options = ["model={model}", "task={task}"]
    config = validate(compose("config", overrides=options), options)
base = load_model(config.backbone, locate(config.model, config.cache_dir), {outputs})
model = PeftModel.from_pretrained(base, "{out}").eval()"""


def base_of(config: Resolved) -> str | None:
    """Hub id or folder of the backbone; None if only the suite can build it."""
    return config.model.path or (None if config.model.package else config.model.hub)


def card(trained: Trained, to: str, out: str) -> str:
    """README.md of an export of kind `to` into `out`."""
    config, result = trained.config, trained.result
    base, parameters, method = base_of(config), result["parameters"], result["method"]["name"]
    head = {"library_name": "peft" if to == "peft" else "transformers", "tags": ["adalora-suite", method]}
    if base and not config.model.path:
        head["base_model"] = base
    budget = result["budget"]
    params = f" ({budget['params']:,} adapter parameters)" if budget["params"] else ""
    rows = ", ".join(f"{split} {count:,}" for split, count in result["task"]["rows"].items())
    lines = [
        "---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "",
        f"# {result['model']['title']}, {config.task.title}, {method}", "",
        f"- Method: `{method}`, {trained.method.config.describe()}",
        f"- Budget: {budget['name']}{params}; trained {parameters['peak']:,}, kept {parameters['kept']:,}, "
        f"head {parameters['head']:,} (not in the budget)",
        f"- Weights: of the last step, {result['last_step']:,}",
        f"- Data: {config.task.title}, {result['task']['origin']}: {rows}"
        + (" (not the official row counts)" if result["task"]["subset"] else ""),
        f"- Training: lr {result['training']['lr']:g}, batch "
        f"{result['training']['batch_size']}, seed {result['seed']}, {result['precision']}, run {result['key']}, "
        f"commit {result['commit'] or 'unknown'}",
        *([] if result["model"]["comparable"] else ["- Not the paper's backbone: its numbers don't apply"]),
        *([f"- Classes: {', '.join(config.task.classes)}"] if config.task.classes else []),
        f"- Task citation: {config.task.citation}", "",
        f"| metric | last step ({result['last_step']:,}) | best step ({result['best_step']:,}) |", "|---|---|---|",
        *(f"| {name} | {value:.4f} | {result['best'][name]:.4f} |" for name, value in result["last"].items()), "",
        "## Loading", "", "```python", loading(trained, to, out, base), "```", "",
        *ranks(result["ranks"]),
        "## Packages", "", ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def loading(trained: Trained, to: str, out: str, base: str | None) -> str:
    """Code that loads the export."""
    config = trained.config
    values: dict[str, Any] = {
        "auto": config.task.auto_class,
        "out": out,
        "base": base,
        "model": config.model.name,
        "task": config.task.name,
        "outputs": getattr(trained.model.config, "num_labels", 2),
    }
    return (PACKAGED if to == "peft" and base is None else LOADING[to]).format(**values)


def ranks(found: dict[str, int]) -> list[str]:
    """Table of realised ranks, if the method has ranks."""
    if not found:
        return []
    rows = [f"| {path} | {rank} |" for path, rank in found.items()]
    return ["## Realised ranks", "", "| module | rank |", "|---|---|", *rows, ""]
