"""BERT weights in the DeBERTa-v2 architecture.

The packaged MiniLM weights become a DeBERTa-v2 encoder that computes the same function, so that
the model classes and code paths of the paper run offline from real pretrained weights. It isn't
DeBERTaV3, and its scores are never set beside the paper's.
"""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

LAYER = re.compile(r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.(weight|bias)")


def bert_to_deberta(bert: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BERT's state dict (without prefix) under DeBERTa-v2's names.

    DeBERTa divides scores by sqrt(3 d) where BERT divides by sqrt(d), so the query weight takes a
    factor sqrt(3). With `encoder.LayerNorm` (over the relative positions) at weight and bias 0, a
    position vector is 0 before its projection, and p2c adds key . query-bias once more: the query
    bias takes sqrt(3) / 2. c2p adds a constant per row, which softmax drops.
    """
    positions = bert["embeddings.position_embeddings.weight"] + bert["embeddings.token_type_embeddings.weight"][0]
    out = {
        "embeddings.word_embeddings.weight": bert["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": positions,
        "embeddings.LayerNorm.weight": bert["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": bert["embeddings.LayerNorm.bias"],
    }
    for name, value in bert.items():
        if not name.startswith("encoder.layer."):
            continue
        if match := LAYER.fullmatch(name):
            layer, which, kind = match.groups()
            name = f"encoder.layer.{layer}.attention.self.{which}_proj.{kind}"
            if which == "query":
                value = value * (math.sqrt(3) if kind == "weight" else math.sqrt(3) / 2)
        out[name] = value
    return out


def graft(bert: Mapping[str, Tensor], encoder: nn.Module) -> None:
    """Copy `bert` into a DebertaV2Model. Its random relative embeddings stay, behind a LayerNorm at
    0: the position terms start at nothing and can be learned.

    Raises:
        RuntimeError: the shapes or layers of the two don't match.
    """
    state = bert_to_deberta(bert)
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    left = set(missing) - {"encoder.rel_embeddings.weight", "encoder.LayerNorm.weight", "encoder.LayerNorm.bias"}
    if left or unexpected:
        raise RuntimeError(f"the graft leaves {sorted(left)} unset and has no place for {unexpected}")
    norm = encoder.get_submodule("encoder.LayerNorm")
    with torch.no_grad():
        norm.weight.zero_()  # type: ignore[operator]
        norm.bias.zero_()  # type: ignore[operator]
