"""Embeddings and neighbours: through OpenAI's client and its defaults, equal to the base's."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
import soundfile
from PIL import Image

from broadbase.inference.base import Base
from support.base_indexes import indexed
from support.bases import base_of, mixed_base, protein_base, text_base
from support.serving import service_of, serving

TEXTS = ["the cat", "a mat and a hat", "the hat of the cat sat"]
TONE = np.sin(np.arange(4800) / 7).astype(np.float32) / 2


@pytest.fixture(scope="module")
def bases() -> dict[str, Base]:
    sounds = base_of("audio", [], "full")
    return {
        "tiny": text_base(),
        "encoder": protein_base(),
        "pictures": mixed_base(),
        "sounds": sounds,
    }


@pytest.fixture(scope="module")
def url(bases: dict[str, Base], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("data") / "notes.csv"
    path.write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    index = indexed(
        path.with_name("notes-index"), bases["tiny"], dict(zip("abc", TEXTS, strict=True))
    )
    with serving(service_of(bases), files=[path, index]) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def post(url: str, path: str, **body: Any) -> Any:
    headers = {"content-type": "application/json"}
    return httpx2.post(f"{url}{path}", content=json.dumps(body), headers=headers, timeout=60)


def vectors(client: openai.OpenAI, given: Any, model: str = "tiny", **more: Any) -> Any:
    answer = client.embeddings.create(model=model, input=given, **more)
    return np.array([each.embedding for each in answer.data], dtype=np.float32)


@pytest.mark.parametrize("more", [{}, {"encoding_format": "float"}])
def test_the_vectors_are_those_of_the_base(
    client: openai.OpenAI, bases: dict[str, Base], more: dict[str, Any]
) -> None:
    expected = bases["tiny"].embed(TEXTS, layers=False)
    assert vectors(client, TEXTS, **more) == pytest.approx(expected, abs=1e-6)
    assert vectors(client, TEXTS[0], **more) == pytest.approx(expected[:1], abs=1e-6)


def test_ids_are_the_text_that_they_spell(client: openai.OpenAI, bases: dict[str, Base]) -> None:
    codec = bases["tiny"].codec()[1]
    rows = [codec.encode(text).values.tolist() for text in TEXTS]
    expected = bases["tiny"].embed(TEXTS, layers=False)
    assert vectors(client, rows) == pytest.approx(expected, abs=1e-6)
    with_start = [int(codec.start), *rows[0]]
    assert vectors(client, with_start) == pytest.approx(expected[:1], abs=1e-6)


def test_ids_of_another_tokenizer_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="not how this base writes a text"):
        vectors(client, [116, 104, 104, 101, 101, 3, 4])
    with pytest.raises(openai.BadRequestError, match="99999 is no id"):
        vectors(client, [99999])


def test_usage_counts_the_tokens_that_are_read(
    client: openai.OpenAI, bases: dict[str, Base]
) -> None:
    answer = client.embeddings.create(model="tiny", input=TEXTS)
    codec = bases["tiny"].codec()[1]
    expected = sum(1 + len(codec.encode(text).values) for text in TEXTS)
    assert answer.usage.prompt_tokens == expected


def test_records_of_other_modalities(url: str, bases: dict[str, Base]) -> None:
    file, sound = io.BytesIO(), io.BytesIO()
    pixels = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 16)
    pixels.save(file, "PNG")
    soundfile.write(sound, TONE, 16_000, format="WAV", subtype="FLOAT")
    cases: list[tuple[str, Any, str, Any]] = [
        ("encoder", "MKV", "protein", "MKV"),
        ("pictures", {"image": base64.b64encode(file.getvalue()).decode()}, "image", pixels),
        ("sounds", {"audio": base64.b64encode(sound.getvalue()).decode()}, "audio", TONE),
    ]
    for model, given, modality, raw in cases:
        answer = post(url, "/v1/embeddings", model=model, input=[given], modality=modality)
        assert answer.status_code == 200, answer.text
        expected = bases[model].embed([raw], modality=modality, layers=False)[0]
        assert answer.json()["data"][0]["embedding"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dimensions": 8}, "dimensions"),
        ({"input": []}, "input"),
        ({"input": [["a"]]}, "input 0"),
        ({"input": {"image": "!!"}}, "no base64"),
        ({"input": {"image": "AAAA"}}, "not an image"),
        ({"input": {"video": "AAAA"}}, "image"),
        ({"input": [None]}, "input 0"),
        ({"input": "\udc00"}, "surrogate"),
        ({"input": [1.5]}, "tiny"),
        ({"modality": "image"}, "no modality"),
        ({"encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_is_no_record_is_refused(url: str, body: dict[str, Any], message: str) -> None:
    answer = post(url, "/v1/embeddings", **{"model": "tiny", "input": "a", **body})
    assert answer.status_code == 400, answer.text
    if message != "tiny":
        assert message in answer.json()["error"]["message"]


def test_neighbours_are_nearest_by_cosine(url: str, bases: dict[str, Base]) -> None:
    rows = bases["tiny"].embed([*TEXTS, "the cat"], layers=False)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows[:3] @ rows[3]
    for where in ({"records": TEXTS}, {"file": "notes"}):
        answer = post(url, "/b/neighbours", model="tiny", query="the cat", k=2, **where).json()
        assert [each["index"] for each in answer["data"]] == np.argsort(-cosines)[:2].tolist()
        assert answer["data"][0]["record"] == "the cat"
        assert answer["data"][0]["cosine"] == pytest.approx(1, abs=1e-5)


def test_neighbours_in_an_index_have_source_and_span(url: str) -> None:
    where = {"query": "the cat", "file": "notes-index"}
    data = post(url, "/b/neighbours", model="tiny", k=2, **where).json()["data"]
    assert len(data) == 2
    assert data[0]["cosine"] == pytest.approx(1, abs=1e-3)
    assert (data[0]["record"], data[0]["source"], data[0]["span"]) == ("the cat", "a", "0-7")
    answer = post(url, "/b/neighbours", model="encoder", **{**where, "query": "MK"})
    assert answer.status_code == 400
    assert "index of another base" in answer.json()["error"]["message"]


def test_neighbours_only_in_files_given_at_start(url: str) -> None:
    for file in ("/etc/passwd", "../notes", str(Path(__file__))):
        answer = post(url, "/b/neighbours", model="tiny", query="a", file=file)
        assert answer.status_code == 400
        assert "notes" in answer.json()["error"]["message"]
    assert post(url, "/b/neighbours", model="tiny", query="a").status_code == 400
