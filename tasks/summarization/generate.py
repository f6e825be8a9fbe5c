"""Generate summaries by beam search.

The search is the library's. Most of its time isn't arithmetic: all beams of a row read the same document, but the
library computes the document's keys and values per beam and copies them whenever beams are reordered. Here they are
computed once per row and never copied, and the beams of a row attend as positions of one query,

    softmax(q K^T / sqrt(d)) V,    q (rows, heads, beams, d),  K, V (rows, heads, source, d),

which gives every beam the same result, with `beams` times less memory for the document.

docs/deviations.md: D-decoding.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import BartForConditionalGeneration, DynamicCache, EncoderDecoderCache, GenerationConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bart.modeling_bart import BartAttention

from tasks.summarization.options import SummarizationTask


def decoding(task: SummarizationTask, model: BartForConditionalGeneration) -> GenerationConfig:
    """The library's generation settings, complete, so that no file next to the weights matters.

    <s> is forced after the start token, and </s> at the maximum length. There are `task.num_beams` beams of at most
    `task.max_target_length` tokens, including the decoder's start token, <s> and </s>.
    """
    config = model.config
    return GenerationConfig(
        num_beams=task.num_beams,
        max_length=task.max_target_length,
        min_length=task.min_length,
        length_penalty=task.length_penalty,
        early_stopping=task.early_stopping if task.num_beams > 1 else False,
        no_repeat_ngram_size=task.no_repeat_ngram,
        do_sample=False,
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        forced_bos_token_id=config.bos_token_id,
        forced_eos_token_id=config.eos_token_id,
    )


@torch.inference_mode()
def generate(
    accelerator: Accelerator,
    model: nn.Module,
    batches: Iterable[dict[str, Tensor]],
    order: Tensor,
    task: SummarizationTask,
    report: Callable[[int, int], None] = lambda done, rows: None,
) -> Tensor:
    """Generate a summary for every row: token ids (rows, longest), in row order, padded, on the CPU.

    Decode them with `tokenizer.batch_decode(ids, skip_special_tokens=True)`.

    Args:
        accelerator: gathers the rows of all processes.
        model: BART in evaluation mode, prepared by `accelerator` or not.
        batches: a prepared loader of `input_ids` and `attention_mask` (batch, source); other columns are ignored.
        order: the row index at each position of `batches`.
        task: the task's generation options.
        report: called at the start and after every batch with rows done and total rows, for a progress bar.
    """
    bart = accelerator.unwrap_model(model)
    pad, config = bart.config.pad_token_id, decoding(task, bart)
    parts: list[Tensor] = []
    done = 0
    report(done, len(order))
    with accelerator.autocast(), beams_as_positions(bart):
        for batch in batches:
            found = search(bart, batch["input_ids"], batch["attention_mask"], config)
            found = accelerator.pad_across_processes(found, dim=1, pad_index=pad)
            parts.append(accelerator.gather_for_metrics(found).cpu())
            done += len(parts[-1])
            report(done, len(order))
    widest = max(part.shape[1] for part in parts)
    found = torch.cat([F.pad(part, (0, widest - part.shape[1]), value=pad) for part in parts])
    return torch.empty_like(found).index_copy_(0, order, found)


def search(bart: BartForConditionalGeneration, ids: Tensor, mask: Tensor, config: GenerationConfig) -> Tensor:
    """Token ids (batch, longest) of the best summary for every document in `ids` (batch, source)."""
    encoded = bart.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    document = [
        (heads_first(attention.k_proj(encoded), attention), heads_first(attention.v_proj(encoded), attention))
        for attention in cross_attentions(bart)
    ]
    library: Any = bart  # its annotation allows more than tensors
    return library.generate(
        ids,
        attention_mask=mask,
        generation_config=config,
        past_key_values=Memory(bart, document),
        encoder_outputs=BaseModelOutput(encoded[..., :1]),  # from here on only its length is used
    )


class Memory(EncoderDecoderCache):
    """The cache: the decoder's past per beam, and the document's keys and values (rows, heads, source, d) per layer."""

    def __init__(self, bart: BartForConditionalGeneration, document: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__(DynamicCache(config=bart.config), DynamicCache(config=bart.config))
        self.document = document

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Reorder the beams of each row; the document isn't copied."""
        self.self_attention_cache.reorder_cache(cast(Any, beam_idx))


@contextmanager
def beams_as_positions(bart: BartForConditionalGeneration) -> Iterator[None]:
    """Replace the forward of the decoder's cross-attentions during the block.

    The model's own generation settings are set aside, because the library would use them for whatever `decoding` omits.
    """
    kept, bart.generation_config = bart.generation_config, GenerationConfig()
    for layer, attention in enumerate(cross_attentions(bart)):
        attention.forward = partial(attend, attention, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        bart.generation_config = kept
        for attention in cross_attentions(bart):
            del attention.forward


def cross_attentions(bart: BartForConditionalGeneration) -> list[BartAttention]:
    """The decoder's cross-attentions, by layer."""
    return [layer.encoder_attn for layer in bart.get_decoder().layers]


def attend(
    attention: BartAttention,
    layer: int,
    hidden_states: Tensor,
    *,
    past_key_values: Memory,
    attention_mask: Tensor | None = None,
    **unused: object,
) -> tuple[Tensor, None]:
    """Same as the library's for one token per beam: hidden_states (rows beams, 1, d_model), attention_mask (rows beams,
    1, 1, source), or None if no document is padded."""
    keys, values = past_key_values.document[layer]
    query = attention.q_proj(hidden_states).view(len(keys), -1, attention.embed_dim)  # (rows, beams, d_model)
    mask = None if attention_mask is None else attention_mask[:: query.shape[1]]
    scale = attention.scaling
    found = F.scaled_dot_product_attention(heads_first(query, attention), keys, values, attn_mask=mask, scale=scale)
    return attention.out_proj(found.transpose(1, 2).reshape(hidden_states.shape)), None


def heads_first(x: Tensor, attention: BartAttention) -> Tensor:
    """(rows, n, heads d) -> contiguous (rows, heads, n, d)."""
    return x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2).contiguous()
