"""Restore the text normalisation stored in a sentencepiece model.

transformers 5 builds DeBERTa-v2's tokenizer with NFC normalisation, which turns `…`, `½`, `ﬁ`, no-break spaces and
full-width forms into other tokens than the pretrained model has seen (docs/deviations.md: D-normaliser). The
sentencepiece file contains the rules used in pretraining, as a compiled character map.
"""

from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, normalizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from adalora.errors import UserError

FILE = "spm.model"  # its file name in DeBERTa


def with_own_normaliser(tokenizer: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerBase:
    """Give the tokenizer the normalisation of the sentencepiece model in `folder`, if there is one.

    Lower-casing (`do_lower_case`) comes first, then the character map, then whitespace rules. The result is of
    transformers' generic class: DeBERTa's would restore its own normaliser when an export is loaded.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return tokenizer
    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise UserError(f"{path} isn't a sentencepiece model ({error}): download it again") from error
    rules = model.normalizer_spec
    steps: list[Any] = [normalizers.Lowercase()] if getattr(tokenizer, "do_lower_case", False) else []
    if rules.precompiled_charsmap:  # absent if the rules are `identity`
        steps.append(normalizers.Precompiled(rules.precompiled_charsmap))
    if rules.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex("^ | $"), "")]
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence(steps)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        **tokenizer.special_tokens_map,
    )
