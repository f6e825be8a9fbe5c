"""The released GLUE code's treatment of the relative-position query.

With shared attention keys, DeBERTa sends the relative-position embeddings through `query_proj` and
`key_proj` in a second call. The released GLUE model adapts the key's second call but not the query's; its SQuAD model,
transformers and PEFT adapt both. `model.pos_query_base_only=true` selects the GLUE model's behaviour
(docs/deviations.md: D-posq).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

SPLIT = (
    "adapts the query on tokens only (model.pos_query_base_only=true), so its increment can't be merged into one "
    "weight: train with model.pos_query_base_only=false"
)


def position_queries(model: nn.Module) -> list[str]:
    """Paths of the query maps that also project positions."""
    return [f"{path}.query_proj" for path, m in model.named_modules() if isinstance(m, DisentangledSelfAttention)]


def bypass_position_query(model: nn.Module) -> None:
    """Make the attached query adapter skip the second call in every attention layer of `model`. Call it after
    `adalora.fast.speed_up`."""
    for attention in list(model.modules()):
        if isinstance(attention, DisentangledSelfAttention) and type(attention.query_proj) is not nn.Linear:
            kind = type(attention)
            attention.__class__ = type(f"TokenQuery{kind.__name__}", (TokenQuery, kind), {})


class TokenQuery:
    """A mixin for an attention whose query is adapted for tokens only."""

    unmergeable = SPLIT
    query_proj: Any

    def disentangled_attention_bias(self, *args: Any, **options: Any) -> Any:
        """The library's, in which `query_proj` only sees positions."""
        with base_only(self.query_proj):
            return super().disentangled_attention_bias(*args, **options)  # type: ignore[misc]

    def position_query(self, positions: Tensor) -> Tensor:
        """That of adalora/fast/attention.py."""
        with base_only(self.query_proj):
            return self.query_proj(positions)


@contextmanager
def base_only(query: Any) -> Iterator[None]:
    """Compute W x + b only, in a map of ours or of PEFT's."""
    query.forward = query.base_layer.forward if hasattr(query, "base_layer") else query.base
    try:
        yield
    finally:
        del query.forward
