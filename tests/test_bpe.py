"""Byte-pair encoding: exact for any Unicode, the same ids by both libraries, specials are text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.modalities.bpe import START, BytePairCodec, BytePairConfig
from broadbase.modalities.code import CodeConfig
from broadbase.modalities.text import TextConfig

HERE = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
CODECS = {
    config.name: config.fit(HERE)
    for config in (TextConfig(vocabulary=900), CodeConfig(vocabulary=900))
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
    config: BytePairConfig = TextConfig(vocabulary=900)
    CODECS["text"].save(tmp_path)
    again = config.load(tmp_path)
    assert all(
        (again.encode(text).values == CODECS["text"].encode(text).values).all() for text in HERE
    )
