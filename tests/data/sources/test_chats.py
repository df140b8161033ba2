"""Conversations and preferences in JSON lines; what cannot be used is counted with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broadbase.core.sources import Record, Reject
from broadbase.data.sources.chats import ChatsConfig, PreferencesConfig
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from support.chats import CHAT, chats, json_lines, preferences, talk


def only(source: Any) -> Record | Reject:
    (item,) = source.records()
    return item


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a"}, "no field `messages`"),
        ({"messages": "hi"}, "field `messages` is str, expected a list of messages"),
        ({"messages": talk("a question")}, "ends with an answer"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "unknown role 'bot'"),
    ],
)
def test_a_bad_conversation_is_a_reject(row: Any, reason: str, tmp_path: Path) -> None:
    item = only(ChatsConfig(path=str(json_lines(tmp_path / "a.jsonl", [row]))))
    assert isinstance(item, Reject)
    assert reason in item.reason
    assert item.origin.endswith("a.jsonl:1")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b"}, "no field `rejected`"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "answer are equal"),
        ({"prompt": talk("a", "b"), "chosen": "c", "rejected": "d"}, "out of order"),
        ({"prompt": 3, "chosen": "c", "rejected": "d"}, "field `prompt` is int"),
        ({"prompt": "a", "chosen": 3, "rejected": "d"}, "field `chosen` is int"),
    ],
)
def test_a_bad_preference_is_a_reject(row: Any, reason: str, tmp_path: Path) -> None:
    item = only(PreferencesConfig(path=str(json_lines(tmp_path / "a.jsonl", [row]))))
    assert isinstance(item, Reject)
    assert reason in item.reason


def test_answers_of_the_prompt_are_no_targets(tmp_path: Path) -> None:
    row = {"prompt": talk("a", "b", "c"), "chosen": "d", "rejected": "e"}
    path = str(json_lines(tmp_path / "a.jsonl", [row]))
    sides = [only(PreferencesConfig(path=path, field=side)) for side in ("chosen", "rejected")]
    for side, text in zip(sides, "de", strict=True):
        assert isinstance(side, Record)
        assert [m["weight"] for m in side.raw.messages] == [0, 0, 0, 1]
        assert side.raw.messages[-1]["content"] == text
    assert sides[0].key == sides[1].key  # type: ignore[union-attr]
    assert sides[0].group == sides[1].group  # type: ignore[union-attr]


def test_a_store_counts_what_it_cannot_use_and_keeps_the_weights(tmp_path: Path) -> None:
    rows = [{"messages": messages} for messages in chats(40)]
    bad = [{"messages": talk("no answer")}, {"messages": talk("hi <|end|>", "no")}]
    source = ChatsConfig(path=str(json_lines(tmp_path / "a.jsonl", [*rows, *bad])))
    config = PrepareConfig(holdout=0.2, rejects=0.2)
    stores, codecs = prepare({"a": StoreRequest(source, CHAT, "text")}, tmp_path / "s", config)
    store = stores["a"]
    assert store.manifest["counts"]["rejected"] == 2
    reasons = (store.folder / "rejected.jsonl").read_text()
    assert "ends with an answer" in reasons
    assert "special token" in reasons
    split = store.split("train")
    total = 0
    for i in range(len(split)):
        ids, weight = split.document(i), split.target_weights(i, 0, int(split.lengths[i]) + 2)
        total += int(weight.sum())
        answers = codecs["text"].decode(ids[weight > 0], ())
        assert 0 < len(answers.encode()) == split.units_each[i]
    assert total == split.targets < split.lengths.sum()


def test_pairs_are_aligned(tmp_path: Path) -> None:
    path = str(json_lines(tmp_path / "a.jsonl", preferences(30)))
    wanted = {
        side: StoreRequest(PreferencesConfig(path=path, field=side), CHAT, "text", paired=True)
        for side in ("chosen", "rejected")
    }
    stores, _ = prepare(wanted, tmp_path / "s", PrepareConfig(holdout=0.2))
    assert stores["chosen"].ids("train") == stores["rejected"].ids("train")
