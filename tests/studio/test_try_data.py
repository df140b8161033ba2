"""What Try shows is what the base, its run and its data say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from broadbase.core.codec import Sample
from broadbase.core.errors import ConfigError, DataError
from broadbase.data.batches import collate
from broadbase.evaluate.likelihood import chunks
from broadbase.evaluate.masked_image import reconstruct
from broadbase.evidence.ngram import KneserNey
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.request import Prompt
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.run.run import Run
from broadbase.serve.worker import Worker
from broadbase.studio.bases import Bases, Description
from broadbase.studio.inputs import given, record_of, space_of
from broadbase.studio.run_data import GONE, RunData, continued_by_gram, embedded, records_of
from broadbase.weights.folder import load
from support.bases import base_of, text_base
from support.recipes import small, write_corpus
from support.runs import pretrain, write_documents


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes")
    pretrain(write_documents(folder / "data"), folder / "runs" / "notes")
    return folder / "runs" / "notes"


def description(run: Path) -> Description:
    worker = Worker(4)
    described = Bases(run.parent, {}, worker).describe(run.name)
    worker.close()
    return described


def test_the_5_gram_counts_the_rows_that_the_run_saw(notes: Path) -> None:
    gram = RunData().gram(description(notes), "bytes")
    run = Run.open(notes)
    plain = run.rows("train")["bytes"].plain
    seen = chunks(collate(run.seen("bytes"), "bytes", plain))
    expected = KneserNey.fit(seen, 5, gram.vocabulary)
    context = np.array([*seen[0][:4]])
    np.testing.assert_allclose(gram.following(context), expected.following(context))


def test_the_5_gram_is_drawn_with_the_seed_of_the_base(notes: Path) -> None:
    base, gram = load(notes), RunData().gram(description(notes), "bytes")

    def drawn(seed: int, temperature: float = 1.0) -> str:
        sampling = SamplingConfig(seed=seed, temperature=temperature)
        return "".join(t.text for t in continued_by_gram(gram, base, "bytes", "doc", sampling, 9))

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(6)}) > 1
    ids = [int(base.codecs["bytes"].start), *b"doc"]
    best = int(np.argmax(gram.following(np.array(ids))))
    first = drawn(0, temperature=0.0)[:1]
    assert first == base.codecs["bytes"].decode(np.array([best]), (1,))


def test_a_run_without_its_data_says_so_and_names_no_path(notes: Path) -> None:
    lost = description(notes)
    for run in (None, notes.parent / "none"):
        changed = Description(lost.name, lost.path, lost.modalities, 1, lost.abilities, run)
        with pytest.raises(DataError, match=GONE) as refused:
            records_of(changed, "bytes")
        assert str(notes.parent) not in str(refused.value)


def test_held_out_records_are_embedded_as_their_raw_values(notes: Path) -> None:
    base, records = load(notes), records_of(description(notes), "bytes")
    as_stored = embedded(base, [each.sample for each in records], "bytes")
    np.testing.assert_allclose(as_stored, base.embed([each.raw for each in records]), atol=1e-5)


def test_a_sample_is_read_as_the_record_that_it_encodes() -> None:
    base = text_base()
    sample = base.codecs["text"].encode("the cat")
    assert isinstance(sample, Sample)
    assert torch.equal(base.read([sample]).values, base.read(["the cat"]).values)


@pytest.mark.parametrize("normalise", [True, False])
def test_a_reconstruction_changes_masked_patches_alone(
    normalise: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    corpus = write_corpus(tmp_path_factory.mktemp("corpus"))
    tree = small("mae", corpus).tree()
    tree["model"]["heads"]["pixels"]["normalise"] = normalise
    config = Run.create(small("mae", corpus).from_tree(tree), corpus / "run").config
    base, objective = Run.open(corpus / "run").base(), config.objective
    assert isinstance(objective, MaskedAutoencoderConfig)
    picture = Image.open(corpus / "003.png")
    one, again, other = (reconstruct(base, objective, "image", picture, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.filled, again.filled)
    assert (one.masked != other.masked).any()
    codec = base.codecs["image"]
    patches = [codec.encode(np.clip(x, 0, 1)).values for x in (one.picture, one.masked)]
    changed = (patches[0] != patches[1]).any(axis=1)
    kept = codec.encode(one.picture).values[~changed]
    np.testing.assert_array_equal(kept, codec.encode(np.clip(one.filled, 0, 1)).values[~changed])
    assert 0.5 < changed.mean() <= objective.mask_ratio + 0.02


def test_what_a_form_holds_is_checked() -> None:
    form = {"text": "a\r\nb", "names": "x\n\n x \ny", "temperature": "0", "seed": "3", "top_k": ""}
    what = given(form, "", b"")
    assert (what.kind, what.record, what.names) == ("text", "a\nb", ("x", "y"))
    assert what.sampling == SamplingConfig(temperature=0, seed=3)
    for fields, words in (
        ({"temperature": "hot"}, "temperature: 'hot' is no float"),
        ({"top_p": "2"}, "top_p"),
        ({"max_new_tokens": "513"}, "513 is not within 1 and 512"),
        ({"text": "a" * 20_001}, "20,001 characters"),
        ({"names": "\n".join(map(str, range(101)))}, "101 names"),
    ):
        with pytest.raises((ConfigError, DataError), match=words):
            given(fields, "", b"")
    for name, content, words in (
        ("a.png", b"", "a.png is an empty file"),
        ("folder/a.png", b"none", "^a.png: not an image"),
        ("a.csv", b"1,2", "a.csv: not an image"),
        ("a.wav", b"RIFF1234", "a.wav: "),
    ):
        with pytest.raises(DataError, match=words):
            given({}, name, content)


def test_a_cell_is_a_gene_and_its_count_on_each_line(notes: Path) -> None:
    what = given({"text": "CD3E 4\nMS4A1,2.5\n\n"}, "", b"")
    assert record_of("cell", what) == {"CD3E": 4.0, "MS4A1": 2.5}
    with pytest.raises(DataError, match="line 2 of the cell is 'MS4A1'"):
        record_of("cell", given({"text": "CD3E 4\nMS4A1"}, "", b""))
    with pytest.raises(DataError, match="no modality 'image'; it has: bytes"):
        space_of(description(notes), given({"text": "a", "modality": "image"}, "", b""))


def test_tokens_of_a_base_of_another_kind_are_not_streamed() -> None:
    base = base_of("image", [])
    with pytest.raises(ConfigError, match="no tokens to be streamed"):
        base.stream(Prompt())
