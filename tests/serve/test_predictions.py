"""Predictions of adapted bases over HTTP are those of `predict` in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from broadbase.adapt.adapted import Adapted
from broadbase.adapt.task import Task
from broadbase.core.sources import Pair
from broadbase.serve.served import Served
from support.adapting import saved
from support.bases import text_base
from support.serving import service_of, serving

CATS, HATS = ["the cat sat", "a cat", "cat on the mat"], ["a hat", "the hat of", "hat and hat"]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Adapted]:
    folder = tmp_path_factory.mktemp("adapted")
    labels = [*["cat"] * 3, *["hat"] * 3]
    one = Task.from_records("kinds", "text", [*CATS, *HATS], labels)
    pairs = [Pair(a, b) for a in CATS for b in HATS]
    two = Task.from_records("pairs", "text", pairs, [str(len(p.second) > 5) for p in pairs])
    read = {"read": {"field": "words", "second": "other"}}
    saved(folder / "kinds", one, text_base(), **read)
    saved(folder / "pairs", two, text_base(), **read)
    return dict(Served.load([folder / "kinds", folder / "pairs"], "cpu").adapted)


@pytest.fixture(scope="module")
def url(adapted: dict[str, Adapted]) -> Iterator[str]:
    with serving(service_of({}, adapted)) as url:
        yield url


def predict(url: str, name: str, records: Any) -> Any:
    return httpx2.post(f"{url}/b/predict/{name}", json=records, timeout=60)


def test_rows_are_those_of_predict(url: str, adapted: dict[str, Adapted]) -> None:
    records = ["the cat", "some hat"]
    expected = [*adapted["kinds"].predict(records)]
    assert predict(url, "kinds", records).json() == expected
    columns = [{"words": text, "id": i} for i, text in enumerate(records)]
    assert predict(url, "kinds", columns).json() == expected
    assert predict(url, "kinds", []).json() == []


def test_pairs_are_lists_or_two_columns(url: str, adapted: dict[str, Adapted]) -> None:
    pairs = [["the cat", "a hat"], ["a cat", "the hat of"]]
    expected = [*adapted["pairs"].predict(pairs)]
    assert predict(url, "pairs", pairs).json() == expected
    columns = [{"words": first, "other": second} for first, second in pairs]
    assert predict(url, "pairs", columns).json() == expected


@pytest.mark.parametrize(
    ("name", "records", "status", "message"),
    [
        ("kinds", [{"text": "a"}], 400, "record 0: it has no column 'words'"),
        ("kinds", ["a", 5], 400, "record 1"),
        ("kinds", "a", 400, "list"),
        ("pairs", ["a"], 400, "record 0: expected a pair"),
        ("others", ["a"], 404, "kinds, pairs"),
    ],
)
def test_bad_records_are_named(
    url: str, name: str, records: Any, status: int, message: str
) -> None:
    answer = predict(url, name, records)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_an_adapted_base_is_listed_and_does_not_complete(url: str) -> None:
    models = httpx2.get(f"{url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["kinds", "pairs"]
    body = {"model": "kinds", "prompt": "a"}
    answer = httpx2.post(f"{url}/v1/completions", json=body)
    assert answer.status_code == 400
    assert "/b/predict/kinds" in answer.json()["error"]["message"]
