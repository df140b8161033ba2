"""Passages: parts of a text that a base can read, each where its span says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.index.passages import cut

TEXT = st.text(alphabet="ab é.!?\n\t中", max_size=200)


def words(text: str) -> int:
    return len(text.split())


@given(TEXT, st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_passages_are_parts_in_order_and_leave_out_only_spaces(text: str, limit: int) -> None:
    passages, end = [*cut(text, len, limit)], 0
    for passage in passages:
        assert passage.start is not None
        assert passage.stop is not None
        assert text[passage.start : passage.stop] == passage.text == passage.text.strip() != ""
        assert not text[end : passage.start].strip()
        assert len(passage.text) <= limit
        end = passage.stop
    assert not text[end:].strip()


def test_sentences_stay_together_where_they_fit() -> None:
    text = "One two three. Four five. Six seven eight nine.\nTen version 3.11 eleven"
    parts = [passage.text for passage in cut(text, words, 5)]
    assert parts == [
        "One two three. Four five.",
        "Six seven eight nine.",
        "Ten version 3.11 eleven",
    ]


def test_a_long_sentence_is_cut_between_words() -> None:
    text = "alpha beta gamma delta epsilon zeta"
    parts = [passage.text for passage in cut(text, words, 2)]
    assert " ".join(parts) == text
    assert max(map(words, parts)) <= 2


@pytest.mark.parametrize("text", ["", " ", "\n\n \t"])
def test_spaces_are_no_passage(text: str) -> None:
    assert [*cut(text, len, 10)] == []
