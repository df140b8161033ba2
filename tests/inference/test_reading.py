"""Records mean the same in use as in training: one spelling, one meaning; what is none is named."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from broadbase.core.errors import ConfigError, DataError
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.documents import FORWARD, TOKENS, alike
from support.bases import base_of, mixed_base, protein_base, text_base

PHENOL = ["Oc1ccccc1", "OC1=CC=CC=C1", "c1ccc(O)cc1"]
CAFES = ["a caf\u00e9\nor two", unicodedata.normalize("NFD", "a caf\u00e9\nor two"),
         "a caf\u00e9\r\nor two", "a caf\u00c3\u00a9\nor two"]  # fmt: skip


@pytest.mark.parametrize("pattern", ["causal", "full"])
def test_one_molecule_has_one_vector(pattern: str) -> None:
    base = base_of("molecule", PHENOL, pattern)
    vectors = base.embed([*PHENOL, "CCN"])
    np.testing.assert_allclose(vectors[1:3], vectors[[0, 0]], atol=1e-6)
    assert not np.allclose(vectors[3], vectors[0], atol=1e-2)
    with pytest.raises(DataError, match="record 1 cannot be read as molecule: not a molecule"):
        base.embed(["CCO", "c1ccccc"])


def test_one_text_has_one_vector_and_one_prediction() -> None:
    """Composed or not, with either line end, or misread as Latin-1."""
    base = replace(text_base(), codecs=base_of("text", CAFES[:1] * 9).codecs)
    vectors = base.embed(CAFES)
    logits = [base.logits(text) for text in CAFES]
    greedy = SamplingConfig(temperature=0)
    said = [base.generate(text, max_new_tokens=5, sampling=greedy) for text in CAFES]
    for i in range(1, len(CAFES)):
        np.testing.assert_allclose(vectors[i], vectors[0], atol=1e-6)
        torch.testing.assert_close(logits[i], logits[0])
        assert said[i] == said[0]
    assert base.generate_batch(CAFES, max_new_tokens=5, sampling=greedy) == said


def test_the_beginning_of_a_molecule_stays_as_it_is_written() -> None:
    """CC(C) may become isobutane; brought to CCC it could not."""
    base = base_of("molecule", PHENOL)
    assert not torch.equal(base.logits("CC(C)")[-1], base.logits("CCC")[-1])
    assert isinstance(base.generate("c1cc", max_new_tokens=3), str)


def test_residues_in_either_case_are_one_protein() -> None:
    base = protein_base()
    one, other = base.embed_tokens(["mkv la", "MKVLA"])
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert len(one) == 5


@pytest.mark.parametrize("raws", ["one text", b"one text", {"text": "a"}, None, 3,
                                  Image.new("L", (4, 4))])  # fmt: skip
def test_one_record_is_not_taken_for_several(raws: Any) -> None:
    for use in (mixed_base().embed, mixed_base().embed_tokens, mixed_base().predict_properties):
        with pytest.raises(ConfigError, match=r"expected a list of records, got one .*\[record\]"):
            use(raws)


def test_records_may_be_any_collection() -> None:
    base = mixed_base()
    wanted = base.embed(["a", "bc"])
    for raws in (("a", "bc"), np.array(["a", "bc"]), iter(["a", "bc"])):
        np.testing.assert_array_equal(base.embed(raws), wanted)  # type: ignore[arg-type]
    assert base.embed([]).shape == (0, 0)


def test_what_is_no_record_is_named_with_its_number() -> None:
    base = mixed_base()
    with pytest.raises(DataError, match="record 1 is None; leave it out"):
        base.embed(["a", None])
    message = "record 2 cannot be read as bytes: expected text or bytes, got Image; .*: image"
    with pytest.raises(DataError, match=message):
        base.embed(["a", "b", Image.new("L", (4, 4))])
    with pytest.raises(DataError, match="record 40 cannot be read as bytes"):
        base.generate_batch(["a"] * 40 + [3])


def test_a_base_is_shown_in_one_line() -> None:
    shown = repr(mixed_base())
    assert shown.startswith("Base(bytes: bytes, image: image; ")
    assert len(shown) < 100


@pytest.mark.parametrize("lengths", [[], [5], [0, 0], [3, 1, 2, 2, 9, 9], [7] * 900])
def test_each_document_is_in_one_batch(lengths: list[int]) -> None:
    batches = alike(lengths, 4)
    assert sorted(i for batch in batches for i in batch) == [*range(len(lengths))]
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert all(len(b) <= max(4, TOKENS / max(1, n)) for b, n in zip(batches, longest, strict=True))


def test_batches_of_documents_have_the_least_padding_and_passes() -> None:
    """No way to cut the sorted documents costs less, as trying all of them shows."""
    lengths = [40, 40, 39, 20, 19, 8, 8, 3, 2, 1]

    def cost(cuts: tuple[int, ...]) -> int:
        pairs = pairwise([0, *cuts, len(lengths)])
        return sum((b - a) * lengths[a] + FORWARD for a, b in pairs)

    every = range(1, len(lengths))
    least = min(cost(cuts) for n in range(len(lengths)) for cuts in combinations(every, n))
    batches = alike(lengths, len(lengths))
    assert sum(len(b) * lengths[b[0]] + FORWARD for b in batches) == least
