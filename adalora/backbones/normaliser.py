"""The text normalisation that a sentencepiece model carries.

transformers 5 builds DeBERTa-v2's tokenizer with a normaliser of its own (NFC), under which `…`, `½`, `ﬁ`, a no-break
space and full-width forms come out as other tokens than the pretrained model has seen (docs/deviations.md:
D-normaliser). The model's file holds the rules it was trained with, as a compiled map of characters.
"""

from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, normalizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from adalora.errors import UserError

FILE = "spm.model"  # DeBERTa's name for it


def with_own_normaliser(tokenizer: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer with the normalisation of the sentencepiece model in `folder`; as it is where there is none.

    Lower-casing (`do_lower_case`) comes first, then the model's map, then blanks as its rules have them. It comes as
    transformers' general class, since DeBERTa's would put its own normaliser back when an export is loaded.

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
        raise UserError(f"{path} is no sentencepiece model ({error}): download it again") from error
    rules = model.normalizer_spec
    steps: list[Any] = [normalizers.Lowercase()] if getattr(tokenizer, "do_lower_case", False) else []
    if rules.precompiled_charsmap:  # none where the rules are `identity`
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
