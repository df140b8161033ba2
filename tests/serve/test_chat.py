"""Chats: rendered as transformers does it, and answered as the base continues that text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.modalities.chat_template import ChatTemplate
from broadbase.weights.folder import load
from support.bases import text_base
from support.references import VOCABULARY, llama, saved
from support.serving import service_of, serving

TEMPLATE = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}
    {%- if loop.index > 50 %}{% break %}{% endif %}
    {{ ' <|' + message.role + '|> ' + message.content | trim }} <|end|>
{%- endfor %}
{% if add_generation_prompt %} <|assistant|> {% endif %}"""
CHAT = [{"role": "user", "content": "w7 w8 "}, {"role": "assistant", "content": "w9"},
        {"role": "user", "content": "w10 w11"}]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY - 4)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(["<|user|>", "<|assistant|>", "<|end|>"])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="w1", eos_token="<|end|>", chat_template=TEMPLATE
    )


@pytest.fixture(scope="module")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder: Path = tmp_path_factory.mktemp("published")
    saved(llama, folder)
    tokenizer.save_pretrained(folder)
    return load(folder)


@pytest.fixture(scope="module")
def client(base: Base) -> Iterator[openai.OpenAI]:
    with serving(service_of({"chat": base, "plain": text_base()})) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, **body: Any) -> Any:
    return client.chat.completions.create(**{"model": "chat", "messages": CHAT, **body})


def test_a_chat_is_rendered_as_transformers_does(base: Base, tokenizer: Any) -> None:
    text = base.codec()[1].chat.render(CHAT, prompt=True)
    options = {"tokenize": False, "add_generation_prompt": True}
    assert text == tokenizer.apply_chat_template(CHAT, **options)


@pytest.mark.parametrize("temperature", [0, 1])
def test_the_answer_continues_the_rendered_chat(
    client: openai.OpenAI, base: Base, tokenizer: Any, temperature: int
) -> None:
    ids = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    sampling = SamplingConfig(temperature=temperature, seed=2)
    expected = base.generate(ids, max_new_tokens=8, sampling=sampling)
    answer = ask(client, max_completion_tokens=8, seed=2, temperature=temperature)
    assert answer.choices[0].message.content == expected
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.prompt_tokens == len(ids)


def test_a_stream_is_the_answer(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=8, seed=2).choices[0]
    parts = [part.choices[0] for part in ask(client, max_tokens=8, seed=2, stream=True)]
    assert "".join(part.delta.content for part in parts) == answer.message.content
    assert parts[0].delta.role == "assistant"
    assert parts[-1].finish_reason == answer.finish_reason


def test_log_probabilities_have_their_form(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=4, seed=2, logprobs=True, top_logprobs=2).choices[0]
    for token in answer.logprobs.content:
        assert len(token.top_logprobs) == 2
        assert bytes(token.bytes).decode() == token.token
        assert token.logprob <= token.top_logprobs[0].logprob


def test_parts_of_text_are_put_together(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "w10 "}, {"type": "text", "text": "w11"}]
    messages = [*CHAT[:2], {"role": "user", "content": parts}]
    both = [ask(client, messages=m, max_tokens=8, seed=1) for m in (messages, CHAT)]
    assert both[0].choices[0].message.content == both[1].choices[0].message.content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "plain"}, "no chat template"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "no tools here"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 4000}, "context"),
    ],
)
def test_what_a_chat_cannot_have_is_refused(
    client: openai.OpenAI, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        ask(client, **change)


def test_a_template_cannot_reach_the_machine() -> None:
    attack = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(Exception, match="refuses them: access to attribute"):
        ChatTemplate(attack).render(CHAT, prompt=True)
