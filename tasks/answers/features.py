"""Prompt and answer as tokens.

    plain   the tokens that the tokenizer puts before a text (BOS for some), then `prompt answer`, with a space between
            unless the prompt ends with white space; in training EOS follows
    chat    the tokenizer's chat template: the prompt as the user's message, the answer as the assistant's, with what
            the template puts after it in training

A text is tokenised whole. The answer begins with the first token that reaches beyond the prompt.
"""

from typing import Any, NamedTuple, cast

import datasets
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from adalora.errors import UserError
from tasks.answers.options import AnswersTask
from tasks.causal.tokens import dataset

TODAY = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}"
"""Put before chat templates, so that tokens don't depend on the day of the run: the date is Llama 3's default."""


class Form(NamedTuple):
    """Tokens around prompt and answer."""

    first: list[int]
    last: list[int]  # in training


def form_of(tokenizer: PreTrainedTokenizerBase, template: str) -> Form:
    """The form of `task.template` with this tokenizer. Raises `UserError` if it has none."""
    if template == "chat":
        if not tokenizer.chat_template:
            raise UserError("task.template=chat: the tokenizer has no chat template: use task.template=plain")
        until, whole = chat(tokenizer, "a") + "b", chat(tokenizer, "a", "b")
        if not whole.startswith(until):
            raise UserError(
                "task.template=chat: the tokenizer's chat template doesn't put an answer where generation starts: use "
                "task.template=plain"
            )
        if ending := whole.removeprefix(until).rstrip():
            return Form([], tokenizer(ending, add_special_tokens=False)["input_ids"])
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no EOS token, which ends an answer")
    probe = tokenizer("a", return_special_tokens_mask=True)
    before = [] if template == "chat" else probe["input_ids"][: probe["special_tokens_mask"].index(0)]
    return Form(before, [tokenizer.eos_token_id])


def chat(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str | None = None) -> str:
    """The template's text up to the answer, or with it."""
    messages = [{"role": "user", "content": prompt}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    text = tokenizer.apply_chat_template(
        messages,
        chat_template=TODAY + tokenizer.get_chat_template(),
        tokenize=False,
        add_generation_prompt=answer is None,
        enable_thinking=False,  # some templates think aloud unless told not to
    )
    return cast(str, text)


def features(
    table: pa.Table, task: AnswersTask, tokenizer: PreTrainedTokenizerBase, training: bool
) -> datasets.Dataset:
    """Training: one feature per row, with the right answer, truncated to `max_length` tokens. Evaluation: one feature
    per choice, or per row if answers are free, without the ending.

    Columns: `input_ids`, `length`, `scored` (how many of the last tokens count), `item` (the row in `table`), `cut`
    (number of tokens beyond `max_length`).

    Raises:
        UserError: the tokenizer lacks the template or an EOS token, or drops an answer; nothing of an answer is left
            within `max_length`; or an evaluation row is longer than that.
    """
    form, chats = form_of(tokenizer, task.template), task.template == "chat"
    prompts, texts, items = [], [], []
    for item, row in enumerate(table.to_pylist()):
        prompt = chat(tokenizer, row["prompt"]) if chats else row["prompt"].rstrip(" ")
        answers = row["choices"] if "choices" in row else [row["answer"].strip()]
        if training and "choices" in row:
            answers = [answers[row["gold"]]]
        space = "" if chats or prompt[-1:].isspace() else " "
        for answer in answers:
            prompts.append(prompt)
            texts.append(f"{prompt}{space}{answer}")
            items.append(item)
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    found: dict[str, list[Any]] = {"input_ids": [], "scored": [], "item": items, "cut": []}
    part, last = ("training", form.last) if training else ("evaluation", [])
    for prompt, item, ids, offsets in zip(prompts, items, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        begin = next((i for i, (_, end) in enumerate(offsets) if end > len(prompt)), None)
        if begin is None:
            raise UserError(f"row {table['row'][item].as_py()} (from 0) of {part}: the tokenizer drops its answer")
        begin, whole = max(1, len(form.first) + begin), form.first + ids + last
        kept = whole[: task.max_length]
        if len(kept) <= begin or (len(kept) < len(whole) and not training):
            reason = "its prompt alone fills" if len(kept) <= begin else "which exceeds"
            longest = len(form.first + last) + max(map(len, encoded["input_ids"]))
            raise UserError(
                f"row {table['row'][item].as_py()} (from 0) of {part} has {len(whole):,} tokens, {reason} "
                f"task.max_length={task.max_length}: leave it out, or set task.max_length={longest}, which all fit"
            )
        found["input_ids"].append(kept)
        found["scored"].append(len(kept) - (1 if training and task.loss_on == "all" else begin))
        found["cut"].append(len(whole) - len(kept))
    return dataset(found)
