"""DeBERTa's disentangled attention, exact and faster than the library's.

Score of query i and key j, head by head (He et al., arXiv 2111.09543; c2p and p2c terms):

    S_ij = (q_i . k_j + q_i . K[b(i - j)] + k_j . Q[b(i - j)]) / sqrt(3 d_head)

with Q, K the projected relative-position tables and b the log bucket of a distance. The library
multiplies with all 512 buckets and gathers an L x L picture of each. Here the tables are first spread
over the 2L - 1 distances; then q_i . K[b(.)] is one plain product a head, and position (i, j) of its
picture lies on a diagonal, which a stride makes a view.

Projections are called as modules, so adapters on query, key and value live, in both of their uses;
attention dropout is kept (docs/deviations.md: D-attention).
"""

import types
from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention, make_log_bucket_position

from adalora.backbones.position_query import position_query


def use_exact_attention(model: nn.Module) -> None:
    """Give every disentangled self-attention of `model` the forward below; names stay as they are."""
    for attention in model.modules():
        if isinstance(attention, DisentangledSelfAttention):
            attention.forward = types.MethodType(forward, attention)  # type: ignore[method-assign]


def forward(
    self: DisentangledSelfAttention,
    hidden_states: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,
    query_states: Tensor | None = None,
    relative_pos: Tensor | None = None,
    rel_embeddings: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As the library's: hidden_states (b, L, d), attention_mask (b, 1, L, L), rel_embeddings (2 span, d)."""
    if output_attentions or query_states is not None or not self.relative_attention:
        return DisentangledSelfAttention.forward(
            self, hidden_states, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings
        )
    heads, length = self.num_attention_heads, hidden_states.shape[1]
    scale = (self.attention_head_size * (1 + len({"c2p", "p2c"} & set(self.pos_att_type)))) ** -0.5
    q = heads_first(self.query_proj(hidden_states), heads) * scale  # (h, b, L, d_head)
    k = heads_first(self.key_proj(hidden_states), heads)
    v = heads_first(self.value_proj(hidden_states), heads)

    scores = q @ k.mT
    rel = self.pos_dropout(rel_embeddings)[: 2 * self.pos_ebd_size]
    buckets = distance_buckets(length, self.pos_ebd_size, self.position_buckets, self.max_relative_positions)
    buckets = buckets.to(rel.device)
    if "c2p" in self.pos_att_type:
        table = (self.key_proj if self.share_att_key else self.pos_key_proj)(rel)
        # row i of the product is laid out by j - i, the distance i - j backwards
        scores = scores + Diagonals.apply(by_distance(q, table, buckets.flip(0)))
    if "p2c" in self.pos_att_type:
        table = position_query(self, rel) if self.share_att_key else self.pos_query_proj(rel)
        scores = scores + Diagonals.apply(by_distance(k, table * scale, buckets)).mT
    scores = scores.masked_fill(~attention_mask[:, 0].bool(), torch.finfo(scores.dtype).min)
    context = self.dropout(scores.softmax(-1)) @ v
    return context.permute(1, 2, 0, 3).flatten(2), None


def heads_first(x: Tensor, heads: int) -> Tensor:
    """(b, L, h d_head) -> (h, b, L, d_head), laid out so: products over positions are then one a head."""
    return x.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3).contiguous()


def by_distance(x: Tensor, table: Tensor, buckets: Tensor) -> Tensor:
    """x (h, b, L, d_head) with the rows of `table` (2 span, h d_head) that `buckets` (2L - 1) names:
    (h, b, L, 2L - 1)."""
    heads = x.shape[0]
    spread = table.index_select(0, buckets).unflatten(-1, (heads, -1)).permute(1, 2, 0)  # (h, d_head, 2L - 1)
    return (x.flatten(1, 2) @ spread).unflatten(1, x.shape[1:3])


@cache
def distance_buckets(length: int, span: int, buckets: int, farthest: int) -> Tensor:
    """The table row of every distance -(L - 1) ... L - 1: the log bucket, moved to start at 0."""
    with torch.inference_mode(False):  # an evaluation may ask first, and training uses it again
        distances = torch.arange(1 - length, length)
        if buckets > 0 and farthest > 0:
            distances = make_log_bucket_position(distances, buckets, farthest).long()
        return (distances + span).clamp(0, 2 * span - 1)


class Diagonals(torch.autograd.Function):
    """(..., L, 2L - 1) -> (..., L, L): out[i, j] = x[i, L - 1 + j - i], without a copy.

    Backward puts the gradient on the same diagonals of zeros, which is exact.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return diagonals(x)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        length = gradient.shape[-1]
        out = gradient.new_zeros(*gradient.shape[:-1], 2 * length - 1)
        diagonals(out).copy_(gradient)
        return out


def diagonals(x: Tensor) -> Tensor:
    """The view that `Diagonals` gives."""
    length, width = x.shape[-2:]
    return x.as_strided((*x.shape[:-1], length), (*x.stride()[:-2], width - 1, 1), x.storage_offset() + length - 1)
