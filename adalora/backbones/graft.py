"""Load BERT weights into the paper's two architectures, DeBERTa-v2 and BART.

The packaged MiniLM weights become an encoder of either architecture that computes the same function, so the paper's
model classes and code paths run offline with real pretrained weights. It isn't DeBERTaV3 or BART, and its scores are
never compared with the paper's.
"""

import math
import re
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from transformers import BartModel

LAYER = re.compile(r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.(weight|bias)")
ANY_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
BERT_EPS = 1e-12  # eps of its LayerNorms, from the packaged config.json; DeBERTa's is in conf/model
IN_BART = {  # modules of a BART layer -> modules of a BERT layer
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "final_layer_norm",
}
DEBERTA_ONLY = re.compile(r"encoder\.(rel_embeddings\.weight|LayerNorm\.(weight|bias))")
# encoder and decoder share the embeddings
BART_ONLY = re.compile(r"(en|de)coder\.embed_tokens\.weight|decoder\.layers\.\d+\.encoder_attn(\.|_layer_norm\.).+")


def bert_to_deberta(bert: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert BERT's state dict (without prefix) to DeBERTa-v2's names.

    DeBERTa divides scores by sqrt(3 d) and BERT by sqrt(d), so the query weight is multiplied by sqrt(3). With weight
    and bias of `encoder.LayerNorm` (over the relative positions) at 0, position vectors are 0 before their projection.
    Then p2c adds key . query-bias a second time, so the query bias is multiplied by sqrt(3) / 2. c2p adds a constant
    per row, which softmax ignores.
    """
    out = {
        "embeddings.word_embeddings.weight": bert["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": positions(bert),
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


def bert_to_bart(bert: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert BERT's state dict (without prefix) to BART's names, for encoder and decoder.

    Both are post-LayerNorm transformers with attention scaled by 1 / sqrt(d), so tensors are copied unchanged. BART has
    two extra position rows at the start and no token types. The decoder's cross-attention has no counterpart.
    """
    out = {"shared.weight": bert["embeddings.word_embeddings.weight"]}
    unused = bert["embeddings.position_embeddings.weight"].new_zeros(2, out["shared.weight"].shape[1])
    for side in ("encoder", "decoder"):
        out[f"{side}.embed_positions.weight"] = torch.cat([unused, positions(bert)])
        for kind in ("weight", "bias"):
            out[f"{side}.layernorm_embedding.{kind}"] = bert[f"embeddings.LayerNorm.{kind}"]
        for name, value in bert.items():
            if match := ANY_LAYER.fullmatch(name):
                layer, module, kind = match.groups()
                out[f"{side}.layers.{layer}.{IN_BART[module]}.{kind}"] = value
    return out


def positions(bert: Mapping[str, Tensor]) -> Tensor:
    """BERT's position embeddings (512, d) plus token type 0, which all our tokens have."""
    return bert["embeddings.position_embeddings.weight"] + bert["embeddings.token_type_embeddings.weight"][0]


def graft(bert: Mapping[str, Tensor], backbone: nn.Module) -> None:
    """Copy `bert` into a DebertaV2Model or a BartModel.

    Parts that BERT lacks keep their initial values: DeBERTa's random relative embeddings, behind a LayerNorm at 0, so
    that the position terms start at 0 and can be learned; BART's random cross-attention (N(0, `init_std`^2), with the
    library's 0.02) and its LayerNorm. BART's LayerNorms get BERT's eps: their own 1e-5 would change embeddings of
    variance 0.004 by 1e-3.

    Raises:
        RuntimeError: the shapes or layers of the two don't match.
    """
    into_bart = isinstance(backbone, BartModel)
    missing, unexpected = backbone.load_state_dict((bert_to_bart if into_bart else bert_to_deberta)(bert), strict=False)
    expected = BART_ONLY if into_bart else DEBERTA_ONLY
    left = [name for name in missing if not expected.fullmatch(name)]
    if left or unexpected:
        raise RuntimeError(f"no source weights for {sorted(left)}, no target for {unexpected}")
    if into_bart:
        for norm in backbone.modules():
            if isinstance(norm, nn.LayerNorm):
                norm.eps = BERT_EPS
    else:
        last = cast(nn.LayerNorm, backbone.get_submodule("encoder.LayerNorm"))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
