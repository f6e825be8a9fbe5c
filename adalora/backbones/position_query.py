"""The released GLUE code's treatment of the relative-position query.

With shared attention keys, DeBERTa sends the relative-position embeddings through `query_proj` and
`key_proj` a second time. The released GLUE model adapts the key's second call and not the query's;
its SQuAD model, transformers and PEFT adapt both. `model.pos_query_base_only` chooses the former
(docs/deviations.md: D-posq).
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention


def bypass_position_query(model: nn.Module) -> None:
    """Let the query's adapter skip its second call, in every attention layer of `model`.

    The position terms are computed in `disentangled_attention_bias`, where `query_proj` is called
    on positions only; during that call the adapted query behaves as its base.
    """
    for attention in model.modules():
        if isinstance(attention, DisentangledSelfAttention):
            attention.disentangled_attention_bias = _without_adapter(  # type: ignore[method-assign]
                attention, attention.disentangled_attention_bias
            )
            attention.position_query_bypassed = True  # type: ignore[assignment]


def _without_adapter(attention: Any, compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def bias(*args: Any, **kwargs: Any) -> Tensor:
        query = attention.query_proj
        query.base_only = True
        try:
            return compute(*args, **kwargs)
        finally:
            query.base_only = False

    return bias
