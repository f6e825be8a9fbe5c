"""DeBERTa's disentangled attention: exact, and faster than the library's.

Score of query i and key j, per head (He et al., arXiv 2111.09543; c2p and p2c terms):

    S_ij = (q_i . k_j + q_i . K[b(i - j)] + k_j . Q[b(i - j)]) / sqrt(3 d_head)

with Q, K the projected relative-position tables and b the log bucket of a distance. The library
multiplies with all 512 buckets and gathers an L x L matrix from each product. Here only the buckets that occur are
projected and expanded to the 2L - 1 distances. Then q_i . K[b(.)] is one product per head, in which entry (i, j) lies
on a diagonal that a strided view can address.

Projections are called as modules, so adapters on query, key and value work in both of their uses. Attention dropout is
kept (docs/deviations.md: D-attention).
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import DebertaV2ForSequenceClassification
from transformers.models.deberta_v2.modeling_deberta_v2 import (
    ContextPooler,
    DebertaV2Encoder,
    DebertaV2Layer,
    DisentangledSelfAttention,
    make_log_bucket_position,
)

from adalora.backbones.position_query import TokenQueryAttention
from adalora.methods.tensors import compute_type

biases: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # cache of bias masks: all layers use the same one


def read_first_token_only(model: nn.Module) -> None:
    """In the last layer of a classifier, compute only the first token's state, which is all that its head reads.

    It needs `StridedAttention`. Logits and gradients are unchanged; the last hidden state has one token.
    """
    if type(model) is DebertaV2ForSequenceClassification and type(model.pooler) is ContextPooler:
        encoder: Any = model.deberta.encoder
        if encoder.conv is None:
            encoder.layer[-1].__class__ = FirstTokenLayer


class EncoderWithoutDistances(DebertaV2Encoder):
    """The encoder without the matrix of distances, which isn't needed here and synchronises with the device."""

    def get_rel_pos(self, hidden_states: Tensor, query_states: Tensor | None = None, relative_pos: Any = None) -> Any:
        return relative_pos


class FirstTokenLayer(DebertaV2Layer):
    """A layer that computes the first token's output, (b, 1, d), from the inputs of all, (b, L, d)."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor, **options: Any) -> Any:  # type: ignore[override]
        if not options.get("output_attentions"):
            options["query_states"] = hidden_states[:, :1]
        return super().forward(hidden_states, attention_mask, **options)


class StridedAttention(TokenQueryAttention):
    """The attention; parameters keep their names."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Same arguments as the library's: hidden_states (b, L, d), attention_mask (b, 1, L, L), rel_embeddings
        (2 span, d).

        `query_states` (b, M, d) are the first M positions; None: all.
        """
        if output_attentions or not self.relative_attention or rel_embeddings is None:
            return super().forward(
                hidden_states, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings
            )
        hidden_states = hidden_states.to(compute_type(hidden_states))  # once for query, key and value
        heads, length = self.num_attention_heads, hidden_states.shape[1]
        scale = (self.attention_head_size * (1 + len({"c2p", "p2c"} & set(self.pos_att_type)))) ** -0.5
        q = heads_first(self.query_proj(hidden_states if query_states is None else query_states), heads)  # (h, b, M, .)
        k = heads_first(self.key_proj(hidden_states), heads)  # (h, b, L, d_head)
        v = heads_first(self.value_proj(hidden_states), heads)
        asked = q.shape[2]

        sizes = (length, self.pos_ebd_size, self.position_buckets, self.max_relative_positions)
        first, last, buckets, backwards = distance_buckets(*sizes, device=hidden_states.device)
        rel = self.pos_dropout(rel_embeddings[first:last])
        scores = bias(attention_mask, asked, q.dtype)
        if "c2p" in self.pos_att_type:
            table = (self.key_proj if self.share_att_key else self.pos_key_proj)(rel) * scale
            # row i of the product is indexed by j - i, the negative of the distance i - j
            scores = scores + Diagonals.apply(by_distance(q, table, backwards), length)
        if "p2c" in self.pos_att_type:
            table = (self.position_query(rel) if self.share_att_key else self.pos_query_proj(rel)) * scale
            scores = scores + Diagonals.apply(by_distance(k, table, buckets), length)[..., :asked].mT
        scores = scores.expand(heads, *scores.shape[-3:]).flatten(0, 1)
        scores = torch.baddbmm(scores, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=scale)
        context = self.dropout(scores.softmax(-1)) @ v.flatten(0, 1)
        return context.unflatten(0, (heads, -1)).permute(1, 2, 0, 3).flatten(2), None


def heads_first(x: Tensor, heads: int) -> Tensor:
    """(b, L, h d_head) -> contiguous (h, b, L, d_head), so that products over positions are one per head."""
    return x.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3).contiguous()


def bias(attention_mask: Tensor, asked: int, dtype: torch.dtype) -> Tensor:
    """The bias added to the scores of the first `asked` queries, (b, asked, L): 0 where the mask is 1, else a number so
    negative that the score is lost in rounding (half of the minimum in fp16, so that the sum stays finite)."""
    kept = biases.setdefault(attention_mask, {})
    if (asked, dtype) not in kept:
        least = torch.finfo(dtype).min / (2 if dtype == torch.float16 else 1)
        seen = attention_mask[:, 0, :asked].bool()
        kept[asked, dtype] = torch.zeros((), dtype=dtype, device=seen.device).where(seen, least)
    return kept[asked, dtype]


def by_distance(x: Tensor, table: Tensor, buckets: Tensor) -> Tensor:
    """Dot products of x (h, b, M, d_head) with rows `buckets` (2L - 1) of `table` (., h d_head): (h, b, M, 2L - 1)."""
    heads = x.shape[0]
    spread = table.index_select(0, buckets).unflatten(-1, (heads, -1)).permute(1, 2, 0)  # (h, d_head, 2L - 1)
    return (x.flatten(1, 2) @ spread).unflatten(1, x.shape[1:3])


@cache
def distance_buckets(
    length: int, span: int, buckets: int, farthest: int, device: torch.device
) -> tuple[int, int, Tensor, Tensor]:
    """The range of table rows that occur (first, and one past the last), and for every distance -(L - 1) ... L - 1 its
    row, the log bucket, relative to the first; then the same in reverse order."""
    with torch.inference_mode(False):  # an evaluation may compute it first, and training reuses it
        distances = torch.arange(1 - length, length)
        if buckets > 0 and farthest > 0:
            distances = make_log_bucket_position(distances, buckets, farthest).long()
        rows = (distances + span).clamp(0, 2 * span - 1)
        first, last = int(rows.min()), int(rows.max())
        rows = rows - first
        return first, last + 1, rows.to(device), rows.flip(0).to(device)


class Diagonals(torch.autograd.Function):
    """(..., M, 2L - 1) -> (..., M, L): out[i, j] = x[i, L - 1 + j - i], without a copy; M <= L.

    The backward pass writes the gradient to the same diagonals of a zero tensor, which is exact.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, length: int) -> Tensor:
        return diagonals(x, length)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        length = gradient.shape[-1]
        out = gradient.new_zeros(*gradient.shape[:-1], 2 * length - 1)
        diagonals(out, length).copy_(gradient)
        return out, None


def diagonals(x: Tensor, length: int) -> Tensor:
    """The strided view of `Diagonals`."""
    width = x.shape[-1]
    return x.as_strided((*x.shape[:-1], length), (*x.stride()[:-2], width - 1, 1), x.storage_offset() + length - 1)


SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    DebertaV2Encoder: EncoderWithoutDistances,
    DisentangledSelfAttention: StridedAttention,
    TokenQueryAttention: StridedAttention,
}
