"""Use attention masks as given, so that the library makes none.

To see whether a mask is needed, transformers reads the padding, or checks whether sequences are packed. On a GPU this
makes the host wait for the device one to three times per pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

GIVEN = "sdpa_with_given_masks"  # an attention without a function for masks: the library then makes none

AttentionInterface.register(GIVEN, sdpa_attention_forward)


@contextmanager
def given_masks(model: nn.Module) -> Iterator[bool]:
    """Within, fused attention takes masks of four dimensions as they are, and none means causal in a decoder and no
    padding elsewhere. Yields False, and changes nothing, with other attention, also of sliding windows."""
    config: Any = getattr(model, "module", model).config  # of a process group's model
    windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    fused = config._attn_implementation == "sdpa" and not windows
    if fused:
        config._attn_implementation = GIVEN
    try:
        yield fused
    finally:
        if fused:
            config._attn_implementation = "sdpa"
