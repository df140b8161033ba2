"""Sounds that are transcribed, and pictures that are drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import soundfile
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from broadbase.core.usage import Usage
from broadbase.inference.autoregressive import AutoregressiveConfig, SamplingConfig
from broadbase.inference.base import Base
from broadbase.inference.conditioning import EncoderConditioningConfig, PrefixConditioningConfig
from broadbase.inference.request import GenerateRequest, Prompt
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import load
from support.bases import mixed_base, text_base
from support.models import HEADS, TOWER
from support.references import VOCABULARY, saved, whisper
from support.serving import service_of, serving

TONE = np.sin(np.arange(3200) / 9).astype(np.float32) / 2


def drawing_base() -> Base:
    """A base that draws pictures of 2 x 2 patches after bytes."""
    given = PrefixConditioningConfig(source="bytes", target="image")
    usage = Usage(conditioning=given, generator=AutoregressiveConfig(), grids={"image": (2, 2)})
    return replace(mixed_base(), usage=usage)


def speech_base() -> Base:
    """A base of the shape of recipe speech."""
    block = {
        "attention": {"name": "grouped", **HEADS},
        "feedforward": {"name": "gated", "hidden_width": 32},
        "cross": {"name": "grouped", **HEADS},
    }
    decoder = {**TOWER, "layers": [{"repeat": 1, "block": block}]}
    tree = {
        "modalities": {"audio": {"name": "audio"}, "bytes": {"name": "bytes"}},
        "towers": {"encoder": TOWER, "decoder": decoder},
        "tower_of": {"bytes": "decoder"},
    }
    config = ModelConfig.from_tree(tree)
    model = config.build()
    initialise(model, 0)
    given = EncoderConditioningConfig(source="audio", target="bytes")
    usage = Usage(attention="full", conditioning=given, generator=AutoregressiveConfig())
    codecs = {name: modality.fit([]) for name, modality in config.modalities.items()}
    return Base(config, model.eval(), codecs, usage)


def words() -> Tokenizer:
    """A tokenizer with Whisper's special tokens."""
    made = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY - 2)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<|notimestamps|>"])
    return made


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Base]:
    folder: Path = tmp_path_factory.mktemp("published")
    reference = saved(whisper, folder)
    words().save(str(folder / "tokenizer.json"))
    return reference, load(folder)


@pytest.fixture(scope="module")
def bases(published: tuple[Any, Base]) -> dict[str, Base]:
    return {
        "whisper": published[1],
        "speech": speech_base(),
        "draw": drawing_base(),
        "text": text_base(),
    }


@pytest.fixture(scope="module")
def url(bases: dict[str, Base]) -> Iterator[str]:
    with serving(service_of(bases)) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def wav(samples: Any = TONE, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format=kind, subtype="FLOAT" if kind == "WAV" else None)
    return file.getvalue()


def test_speech_is_what_the_base_generates(client: openai.OpenAI, bases: dict[str, Base]) -> None:
    answer = client.audio.transcriptions.create(model="speech", file=("a.wav", wav()))
    request = GenerateRequest(
        prompts=(Prompt(attachments=((TONE, 16_000),)),),
        max_new_tokens=224,
        sampling=SamplingConfig(temperature=0),
    )
    assert answer.text == bases["speech"].generate_request(request)[0]


def test_whisper_writes_what_transformers_computes(
    client: openai.OpenAI, published: tuple[Any, Base]
) -> None:
    reference, base = published
    answer = client.audio.transcriptions.create(model="whisper", file=("a.flac", wav(kind="FLAC")))
    heard, _ = soundfile.read(io.BytesIO(wav(kind="FLAC")), dtype="float32")
    codec = base.codecs["audio"]
    features = torch.from_numpy(codec.encode(heard).values.reshape(24, 8).T.copy())[None]
    start = reference.config.decoder_start_token_id
    ids = [start, base.codecs["text"].tokenizer.token_to_id("<|notimestamps|>")]
    for _ in range(80 - 8):
        with torch.no_grad():
            given = torch.tensor([ids])
            logits = reference(input_features=features, decoder_input_ids=given).logits
        ids.append(int(logits[0, -1].argmax()))
        if ids[-1] == reference.config.eos_token_id:
            break
    new = [i for i in ids[2:] if i != reference.config.eos_token_id]
    assert answer.text.split() == words().decode(new).split()


@pytest.mark.parametrize(
    ("model", "content", "more", "message"),
    [
        ("text", wav(), {}, "does not write what it hears"),
        ("speech", b"RIFFnothing", {}, "file"),
        ("speech", b"", {}, "file"),
        ("whisper", wav(np.zeros(160_000, np.float32)), {}, "the window holds"),
        ("whisper", wav(), {"language": "xx"}, "no language"),
        ("speech", wav(), {"response_format": "srt"}, "response_format"),
        ("speech", wav(), {"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ("speech", wav(), {"temperature": "nan"}, "temperature"),
    ],
)
def test_what_cannot_be_heard_is_refused(
    url: str, model: str, content: bytes, more: dict[str, str], message: str
) -> None:
    files = {"file": ("a.wav", content)}
    data = {"model": model, **more}
    answer = httpx2.post(f"{url}/v1/audio/transcriptions", data=data, files=files, timeout=60)
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]["message"]


def test_pictures_are_what_the_base_draws(client: openai.OpenAI, bases: dict[str, Base]) -> None:
    answer = client.images.generate(model="draw", prompt="cat", n=2, extra_body={"seed": 3})
    prompts = (Prompt(value="cat"),) * 2
    request = GenerateRequest(prompts=prompts, sampling=SamplingConfig(seed=3))
    assert answer.data is not None
    for drawn, expected in zip(answer.data, bases["draw"].generate_request(request), strict=True):
        content = base64.b64decode(str(drawn.b64_json))
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        assert pixels == pytest.approx(expected[..., 0] * 255, abs=0.51)


def test_a_base_that_does_not_draw_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not draw"):
        client.images.generate(model="text", prompt="cat")
    with pytest.raises(openai.BadRequestError, match="size"):
        client.images.generate(model="draw", prompt="cat", size="1024x1024")
    with pytest.raises(openai.BadRequestError, match="no text"):
        client.completions.create(model="draw", prompt="cat")
