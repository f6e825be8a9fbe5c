"""The released GLUE code's treatment of the relative-position query.

With shared attention keys, DeBERTa sends the relative-position embeddings through `query_proj` and
`key_proj` in a second call. The released GLUE model adapts the key's second call but not the query's; its SQuAD model,
transformers and PEFT adapt both. `model.pos_query_base_only=true` selects the GLUE model's behaviour
(docs/deviations.md: D-posq).
"""

from collections.abc import Callable, Iterator
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
    """Make the attached query adapter skip the second call in every attention layer of `model`.

    The library makes that call in `disentangled_attention_bias`, where `query_proj` only sees positions; attention.py
    makes it in `position_query`.
    """
    for attention in model.modules():
        if isinstance(attention, DisentangledSelfAttention):
            attention.position_query_bypassed = True  # type: ignore[assignment]
            if type(attention.query_proj) is not nn.Linear:
                attention.unmergeable = SPLIT  # type: ignore[assignment]
            attention.disentangled_attention_bias = _without_adapter(  # type: ignore[method-assign]
                attention, attention.disentangled_attention_bias
            )


def position_query(attention: Any, positions: Tensor) -> Tensor:
    """Project position embeddings by the query's base map, (2 span, d) -> (2 span, h d_head)."""
    if not getattr(attention, "position_query_bypassed", False):
        return attention.query_proj(positions)
    with _base_only(attention.query_proj):
        return attention.query_proj(positions)


def _without_adapter(attention: Any, compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def bias(*args: Any, **kwargs: Any) -> Tensor:
        with _base_only(attention.query_proj):
            return compute(*args, **kwargs)

    return bias


@contextmanager
def _base_only(query: Any) -> Iterator[None]:
    switch = "_disable_adapters" if hasattr(query, "_disable_adapters") else "base_only"  # PEFT's layers or ours
    setattr(query, switch, True)
    try:
        yield
    finally:
        setattr(query, switch, False)
