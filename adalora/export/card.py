"""Write a model card: training, scores, and how to load the model."""

import json
import math
import textwrap
from typing import Any

from adalora.config.schema import Resolved
from adalora.run.trained import Trained

LOADING = {
    "peft": """from peft import PeftModel
from transformers import AutoConfig, AutoTokenizer, {auto}

folder = "{out}"
base = {auto}.from_pretrained("{base}", config=AutoConfig.from_pretrained(folder), dtype="{dtype}")
model = PeftModel.from_pretrained(base, folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)""",
    "merged": """from transformers import AutoTokenizer, {auto}

folder = "{out}"
model = {auto}.from_pretrained(folder, dtype="{dtype}").eval()
tokenizer = AutoTokenizer.from_pretrained(folder)""",
    "card": """from pathlib import Path

from adalora.run.trained import load_run

run = load_run(Path("{out}"))
model, tokenizer = run.model, run.tokenizer""",
}
PACKAGED = """from peft import PeftModel
from transformers import AutoTokenizer

from adalora.backbones.load import load_model, locate
from adalora.config import register, validate
from hydra import compose, initialize_config_dir

register()
with initialize_config_dir("/path/to/the/suite/conf", version_base="1.3"):
    options = ["model={model}", "task={task}"]  # of a task with the same kind of head
    config = validate(compose("config", overrides=options), options)
folder = "{out}"
base = load_model(config.backbone, locate(config.model, config.cache_dir), {outputs})
model = PeftModel.from_pretrained(base, folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)"""
GENERATE = (
    """print(tokenizer.decode(model.generate(**tokenizer("A text", return_tensors="pt"), max_new_tokens=32)[0]))"""
)
STOCK = {
    "AutoModelForSequenceClassification": "rte",
    "AutoModelForQuestionAnswering": "squad_v1",
    "AutoModelForSeq2SeqLM": "xsum",
    "AutoModelForCausalLM": "igbo",
}
"""A task of the suite, by transformers' class."""
USING = {
    "AutoModelForSequenceClassification": """inputs = tokenizer({texts}, return_tensors="pt")
print(model.config.id2label[model(**inputs).logits.argmax(-1).item()])""",
    "AutoModelForCausalLM": GENERATE,
    "AutoModelForSeq2SeqLM": GENERATE,
}
"""What one does with the model, by transformers' class."""


def base_of(config: Resolved) -> str | None:
    """The backbone's id on the hub; None if it came from a package, or from a folder, whose path helps nobody else."""
    return None if config.model.path or config.model.package else config.model.hub


def card(trained: Trained, to: str, out: str) -> str:
    """README.md of an export of kind `to` into `out`."""
    config, result = trained.config, trained.result
    base, parameters, method = base_of(config), result["parameters"], result["method"]["name"]
    head = {"library_name": "peft" if to == "peft" else "transformers", "tags": ["adalora-suite", method]}
    if base:
        head["base_model"] = base
    budget, best, own = result["budget"], result["best"], trained.method.config
    params = f" ({budget['params']:,} adapter parameters)" if budget["params"] else ""
    rows = ", ".join(f"{split} {count:,}" for split, count in result["task"]["rows"].items())
    lines = [
        "---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "",
        f"# {result['model']['title']}, {config.task.title}, {method}", "",
        f"- Method: {', '.join(filter(None, [f'`{method}`', own.basis, own.describe()]))}",
        f"- Budget: {budget['name']}{params}; trained {parameters['peak']:,}, kept {parameters['kept']:,}, "
        f"head {parameters['head']:,} and modules {parameters.get('modules', 0):,} (not in the budget)",
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
        *(f"| {name} | {value:.4f} | {best.get(name, math.nan):.4f} |" for name, value in result["last"].items()), "",
        "## Loading", "", "```python", loading(trained, to, out, base), "```", "",
        *ranks(result["ranks"]),
        "## Packages", "", ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def loading(trained: Trained, to: str, out: str, base: str | None) -> str:
    """Code that loads the export and uses it."""
    config = trained.config
    packaged = to == "peft" and config.model.package is not None and not config.model.path
    using = USING.get(config.task.auto_class, "")
    texts = getattr(config.task, "text", [])
    values: dict[str, Any] = {
        "auto": config.task.auto_class,
        "out": out,
        "base": base or f"the folder of {config.model.title}",
        "dtype": {"fp32": "float32", "bf16": "bfloat16"}[config.model.dtype],
        "model": config.model.name,
        "task": STOCK[config.task.auto_class],
        "outputs": getattr(trained.model.config, "num_labels", 2),
        "texts": ", ".join(['"A text"', '"another"'][: len(texts)]),
    }
    if using and config.task.auto_class == "AutoModelForSequenceClassification" and not config.task.classes:
        using = ""  # a regression
    if using and to == "card" and config.model.dtype == "bf16":  # the adapters are fp32
        autocast = "import torch\n\nwith torch.autocast(model.device.type, torch.bfloat16):\n"
        using = autocast + textwrap.indent(using, "    ")
    code = PACKAGED if packaged else LOADING[to]
    return "\n\n".join(part.format(**values) for part in (code, using) if part)


def ranks(found: dict[str, int]) -> list[str]:
    """Table of realised ranks, if the method has ranks."""
    if not found:
        return []
    rows = [f"| {path} | {rank} |" for path, rank in found.items()]
    return ["## Realised ranks", "", "| module | rank |", "|---|---|", *rows, ""]
