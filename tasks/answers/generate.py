"""Generate answers, and read the number that one ends with."""

import re
from decimal import Decimal
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tasks.causal.tokens import IGNORED
from tasks.task_type import Batch, ReportProgress, Split

NUMBER = re.compile(r"-?\$?(?:\d[\d,]*)?\.?\d+")
FINAL = re.compile(r"####|[Aa]nswer is")


@torch.inference_mode()
def generate(
    accelerator: Accelerator,
    model: nn.Module,
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    most: int,
    ends: list[int],
    report: ReportProgress,
) -> list[str]:
    """The most likely next token, one after another, until an end or `most` tokens, with a KV cache; in row order.

    Args:
        accelerator: gathers the rows of all processes.
        model: a decoder in evaluation mode.
        split: prompts with answers, which are the scored tokens.
        tokenizer: the model's.
        most: tokens of an answer.
        ends: tokens that end it.
        report: called after every batch with rows done and total rows.
    """
    decoder: Any = accelerator.unwrap_model(model)
    pad = ends[0]
    config = GenerationConfig(max_new_tokens=most, do_sample=False, pad_token_id=pad, eos_token_id=ends)
    kept = decoder.generation_config
    decoder.generation_config = GenerationConfig()  # no file beside the weights matters
    parts: list[Tensor] = []
    report(0, len(split.order))
    try:
        for batch in split.batches:
            prompts, mask = prompts_of(batch)
            found = decoder.generate(prompts, attention_mask=mask, generation_config=config)
            found = accelerator.pad_across_processes(found[:, prompts.shape[1] :], dim=1, pad_index=pad)
            parts.append(accelerator.gather_for_metrics(found).cpu())
            report(sum(map(len, parts)), len(split.order))
    finally:
        decoder.generation_config = kept
    widest = max(part.shape[1] for part in parts)
    ids = torch.cat([F.pad(part, (0, widest - part.shape[1]), value=pad) for part in parts])
    ids = torch.empty_like(ids).index_copy_(0, split.order, ids)
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def prompts_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """The tokens before the first scored one of every row (batch, longest), padded on the left, and their mask."""
    ids, labels = batch["input_ids"], batch["labels"]
    lengths = ids.shape[1] - labels.shape[1] + (labels != IGNORED).int().argmax(1, keepdim=True) + 1
    longest = int(lengths.max())
    places = torch.arange(longest, device=ids.device) - (longest - lengths)  # negative in the padding
    return ids.gather(1, places.clamp(min=0)), (places >= 0).long()


def final_number(text: str) -> Decimal | None:
    """The first number after the last `####` (GSM8K) or `answer is` (MetaMathQA), else the last one of the text.
    Thousands separators and currency aren't read."""
    *_, end = FINAL.split(text)
    found = NUMBER.findall(end)
    if not found:
        return None
    number = found[0] if FINAL.search(text) else found[-1]
    return Decimal(number.replace(",", "").replace("$", ""))


def exact_match(predicted: str, reference: str) -> bool:
    """Whether two answers are the same text but for white space."""
    return predicted.split() == reference.split()


def exact_number(predicted: str, reference: str) -> bool:
    """Whether two answers end with the same number."""
    number = final_number(predicted)
    return number is not None and number == final_number(reference)


MATCHES = {"exact_match": exact_match, "exact_number": exact_number}
