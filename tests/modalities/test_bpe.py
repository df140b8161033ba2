"""Byte-pair encoding: exact for any Unicode, the same ids by both libraries, specials are text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.core.errors import DataError
from broadbase.modalities.bpe import START, BytePairCodec, BytePairConfig
from broadbase.modalities.source_code import CodeConfig
from broadbase.modalities.text import TextConfig
from support.paths import TESTS

HERE = [path.read_text() for path in sorted(TESTS.glob("*/test_*.py"))]
CODECS = {
    config.name: config.fit(HERE)
    for config in (TextConfig(vocab_size=900), CodeConfig(vocab_size=900))
}
unicode = st.text() | st.lists(st.sampled_from(HERE), max_size=1).map(lambda t: "".join(t)[:2000])


@pytest.mark.parametrize("name", CODECS)
@settings(max_examples=300, deadline=None)
@given(text=unicode | st.text(" \t\n\r\x85\u2028ab_1", max_size=30))
def test_any_text_comes_back_and_both_libraries_agree(name: str, text: str) -> None:
    codec = CODECS[name]
    assert isinstance(codec, BytePairCodec)
    sample = codec.encode(text)
    assert codec.decode(sample.values, sample.grid) == text
    assert sample.units == len(text.encode())
    codec.tokenizer.encode_special_tokens = True
    assert sample.values.tolist() == codec.tokenizer.encode(text, add_special_tokens=False).ids


def test_a_special_token_in_a_text_is_text() -> None:
    codec = CODECS["text"]
    values = codec.encode(f"a {START} b").values
    assert int(codec.start) not in values
    assert codec.decode(values, ()) == f"a {START} b"
    assert codec.decode(np.array([int(codec.start), *values.tolist()]), ()) == f"a {START} b"


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    config: BytePairConfig = TextConfig(vocab_size=900)
    CODECS["text"].save(tmp_path)
    again = config.load(tmp_path)
    assert all(
        (again.encode(text).values == CODECS["text"].encode(text).values).all() for text in HERE
    )


def _huge(tree: Any) -> None:
    tree["model"]["vocab"]["a"] = 10**9


def _no_start(tree: Any) -> None:
    tree["added_tokens"], tree["model"]["vocab"] = [], {"a": 0}
    tree["model"]["merges"] = []


def _no_byte(tree: Any) -> None:
    tree["model"]["vocab"]["\u4eac"] = 901


def _no_regex(tree: Any) -> None:
    tree["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "("


@pytest.mark.parametrize("damage", [_huge, _no_start, _no_byte, _no_regex])
def test_a_damaged_tokenizer_is_named(damage: Callable[[Any], None], tmp_path: Path) -> None:
    CODECS["text"].save(tmp_path)
    path = tmp_path / "tokenizer.json"
    tree = json.loads(path.read_text())
    damage(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"tokenizer\.json is not a tokenizer"):
        TextConfig(vocab_size=900).load(tmp_path)
