"""A run's own model folder in transformers, text in and numbers out, as in ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, pipeline

from broadbase.core.view import Predict, Stream, View
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.documents import prompts
from broadbase.inference.usages import plain_usage
from broadbase.weights import companions
from broadbase.weights.folder import load, save
from support.bases import normed_base, text_base

TEXT = "the cat sat"
MAKES = [text_base, normed_base]


def encoder(make: Callable[[], Base]) -> Base:
    base = replace(make(), usage=plain_usage("full"))
    with torch.no_grad():
        base.model.spaces["text"].mask.normal_()
    return base


def hidden(base: Base, text: str, place: int) -> torch.Tensor:
    """What a base says of a place that is hidden."""
    segment = prompts("text", base.codecs["text"], [text], closed=True)
    marks = torch.zeros_like(segment.values, dtype=torch.bool)
    marks[0, place] = True
    seen = replace(segment, masked=marks)
    stream = Stream("main", "main", (seen,), "full", readouts=(Predict("text", "told"),))
    with torch.no_grad():
        return base.model(View((stream,))).predictions["told"][0, place]


@torch.no_grad()
@pytest.mark.parametrize("make", MAKES)
def test_a_decoder(make: Callable[[], Base], tmp_path: Path) -> None:
    base = make()
    save(base, tmp_path)
    words = AutoTokenizer.from_pretrained(tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    result = reference(**words(TEXT, return_tensors="pt")).logits[0]
    assert (result - base.logits(TEXT)).abs().max() < 1e-5
    said = pipeline("text-generation", model=reference, tokenizer=words)(
        TEXT, max_new_tokens=9, do_sample=False
    )
    greedy = SamplingConfig(temperature=0)
    assert said[0]["generated_text"] == TEXT + base.generate(
        TEXT, max_new_tokens=9, sampling=greedy
    )


@torch.no_grad()
@pytest.mark.parametrize("make", MAKES)
def test_an_encoder_leaves_with_its_mask(make: Callable[[], Base], tmp_path: Path) -> None:
    base = encoder(make)
    save(base, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    words = AutoTokenizer.from_pretrained(tmp_path)
    assert words.mask_token_id == config["mask_token_id"] == config["vocab_size"] - 1
    assert words.mask_token == "<mask>"
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["mask_token"] == "<mask>"
    reference, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    reference.eval()
    ids = words(TEXT, return_tensors="pt").input_ids
    V = config["vocab_size"] - 1
    assert (reference(ids).logits[0, :, :V] - base.logits(TEXT)).abs().max() < 1e-5
    ids[0, 2] = words.mask_token_id
    output = reference(ids).logits[0, 2]
    expected = hidden(base, TEXT, 2)
    assert (output[:V] - expected).abs().max() < 1e-5
    assert output[V] == pytest.approx(float(expected[int(base.codecs["text"].start)]), abs=1e-5)
    fill = pipeline("fill-mask", model=reference, tokenizer=words)
    said = {each["token"]: each["score"] for each in fill("the <mask> sat", top_k=V + 1)}
    place = int((words("the <mask> sat", return_tensors="pt").input_ids[0] == V).nonzero())
    scores = hidden(base, "the cat sat", place).softmax(dim=-1)
    assert max(said, key=lambda i: said[i]) == int(scores.argmax())
    again = load(tmp_path)
    assert again.config == base.config
    for name, value in base.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert torch.equal(hidden(again, TEXT, 2), expected)


@torch.no_grad()
@pytest.mark.parametrize("make", MAKES)
def test_what_transformers_saved_of_it_is_read_again(
    make: Callable[[], Base], tmp_path: Path
) -> None:
    """With the mask that a prompt may hold."""
    base: Any = encoder(make)
    save(base, tmp_path / "ours")
    for auto in (AutoModelForMaskedLM, AutoTokenizer):
        auto.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again = load(tmp_path / "theirs")
    V = again.config.modalities["text"].discrete.mask_id  # type: ignore[attr-defined]
    assert base.config.modalities["text"].id_settings.vocab_size == V
    assert (again.logits(TEXT)[:, :V] - base.logits(TEXT)).abs().max() < 1e-5
    assert again.embed([TEXT]) == pytest.approx(base.embed([TEXT]), abs=1e-5)
    values = base.codecs["text"].encode(TEXT).values
    assert (again.codecs["text"].encode(TEXT).values == values).all()
    marked = again.codecs["text"].encode_prompt("<mask> sat").values  # type: ignore[attr-defined]
    assert marked[0] == V


def test_many_ids_that_no_record_has_are_added_at_once() -> None:
    """One by one they would take minutes."""
    base = text_base()
    codec: Any = base.codecs["text"]
    output, count = Tokenizer.from_str(codec.tokenizer.to_str()), 20_000
    first = output.get_vocab_size()
    companions._every_id(output, count, range(first, first + 2), count - 1)
    spelled = [output.id_to_token(i) for i in (first, first + 1, first + 2, count - 1)]
    assert spelled == ["<extra_id_0>", "<extra_id_1>", f"<unused_{first + 2}>", "<mask>"]
    assert output.get_vocab_size() == count
