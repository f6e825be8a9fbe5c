"""The released GLUE code's treatment of the relative-position query.

With shared attention keys, DeBERTa sends the relative-position embeddings through `query_proj` and
`key_proj` in a second call. The released GLUE model adapts the key's second call but not the query's; its SQuAD model,
transformers and PEFT adapt both. `model.pos_query_base_only=true` selects the GLUE model's behaviour
(docs/deviations.md: D-posq).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

SPLIT = (
    "adapts the query on tokens only (model.pos_query_base_only=true), so its increment can't be merged into one "
    "weight: train with model.pos_query_base_only=false"
)


def bypass_position_query(model: nn.Module) -> None:
    """Make the attached query adapter skip the second call in every attention layer of `model`."""
    for module in model.modules():
        attention: Any = module
        if isinstance(module, DisentangledSelfAttention) and base_of(attention.query_proj):
            if type(attention) is DisentangledSelfAttention:
                attention.__class__ = TokenQueryAttention
            attention.tokens_only, attention.unmergeable = True, SPLIT


class TokenQueryAttention(DisentangledSelfAttention):
    """Attention whose query is adapted for tokens only if `tokens_only`."""

    tokens_only = False

    def disentangled_attention_bias(self, *args: Any, **options: Any) -> Any:
        """The library's, in which `query_proj` only sees positions."""
        with base_only(self.query_proj) if self.tokens_only else nullcontext():
            return super().disentangled_attention_bias(*args, **options)

    def position_query(self, positions: Tensor) -> Tensor:
        """Project position embeddings, (2 span, d) -> (2 span, h d_head), for adalora/fast/attention.py."""
        project: Any = base_of(self.query_proj) if self.tokens_only else self.query_proj
        return project(positions)


def base_of(query: Any) -> Callable[[Tensor], Tensor] | None:
    """W x + b of an adapted module, ours or PEFT's; None for a plain one."""
    return query.base_layer.forward if hasattr(query, "base_layer") else getattr(query, "base", None)


@contextmanager
def base_only(query: Any) -> Iterator[None]:
    """Compute W x + b only, in an adapted module."""
    query.forward = base_of(query)
    try:
        yield
    finally:
        del query.forward
