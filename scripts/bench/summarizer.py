"""A summarising side: MiniLM-L6's shape in BART's classes (`model=bart_minilm`), with random weights."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from transformers import BartForConditionalGeneration

from adalora.methods.linear import merged
from scripts.bench.lengths import summaries
from scripts.bench.side import Side
from tasks.summarization.generate import beams_as_positions, decoding, search
from tasks.summarization.options import SummarizationTask

LONGEST = 64  # tokens per summary (conf/task/xsum.yaml); with random weights none ends earlier, so the work is equal
OPTIONS = ("model=bart_minilm", "task.max_length=512", f"task.min_length={LONGEST - 1}")


class Summarizer(Side):
    """Trains on summaries of XSum's lengths, and generates them with XSum's settings."""

    task = "xsum"

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec | {"options": [*OPTIONS, *spec.get("options", ())]})
        self.search = self.ours_search if spec["side"] == "ours" else self.library_search
        options, model = cast(SummarizationTask, self.config.task), cast(BartForConditionalGeneration, self.model)
        self.decoding = decoding(options, model)

    def batch(self, lengths: Sequence[int]) -> dict[str, Tensor]:
        """Documents of these lengths, with summaries of XSum's lengths."""
        targets = summaries(len(lengths))
        found = self.tokens(targets)
        labels = found["input_ids"].masked_fill(found["attention_mask"] == 0, -100)
        return self.tokens(lengths) | {"labels": labels}

    def suite_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The library's loss, as used in the suite."""
        return self.model(**batch, use_cache=False).loss

    def work(self, asked: dict[str, Any]) -> Callable[[], Any]:
        """Time a step or generation."""
        if asked["do"] != "generate":
            return super().work(asked)
        return partial(self.generate, self.tokens(asked["lengths"]))

    @torch.inference_mode()
    def generate(self, batch: dict[str, Tensor]) -> None:
        """Summaries by beam search."""
        self.model.eval()
        with torch.autocast(self.device.type, self.low, enabled=self.low is not None):
            self.search(batch["input_ids"], batch["attention_mask"])
        self.model.train()

    def ours_search(self, ids: Tensor, mask: Tensor) -> None:
        """Generate as in a run's evaluation, with merged weights that are restored afterwards."""
        bart: Any = self.model
        with merged(bart), beams_as_positions(bart):
            search(bart, ids, mask, self.decoding)

    def library_search(self, ids: Tensor, mask: Tensor) -> None:
        """The library's."""
        model: Any = self.model
        model.generate(input_ids=ids, attention_mask=mask, generation_config=self.decoding)
