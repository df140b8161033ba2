"""Codes: a tokenizer trained, used as a modality, told causally and as targets (BEiT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from broadbase.core.contracts import Batch, ModalityConfig, ObjectiveConfig
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.data.samples.builtin import DigitsConfig
from broadbase.evaluate.registry import evaluate
from broadbase.modalities.codes import CodesCodec
from broadbase.nn.spaces.codebooks import CodebooksConfig
from broadbase.recipes.recipe import find_recipe
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load
from support.codes import DIGITS, IMAGE, digits
from support.segments import images


def test_a_trained_tokenizer_tells_pictures_better_than_their_mean(tokenizer: Path) -> None:
    rows = evaluate(Run.open(tokenizer), load(tokenizer / "model"))
    result = {row.baseline: row for row in rows}
    assert result.keys() == {"mean by position", "k-means of 64", "uniform use"}
    assert result["mean by position"].verdict == "better"
    assert result["uniform use"].other == 6  # bits of 64 codes
    assert 2 < result["uniform use"].model < 6
    base = result["mean by position"]
    codec = ModalityConfig.from_tree(codes(tokenizer)).fit([])
    output = [codec.decode(codec.encode(raw).values, (4, 4)) for raw in pictures(50)]
    error = np.mean([(a[..., 0] - b) ** 2 for a, b in zip(output, pictures(50), strict=True)])
    assert error == pytest.approx(base.model, rel=0.3)  # other pictures, training ones among them


def pictures(count: int) -> list[Any]:
    return [record.raw for record in DigitsConfig(last=count).records()]  # type: ignore[union-attr]


def codes(tokenizer: Path, **fields: Any) -> dict[str, Any]:
    return {"name": "codes", "tokenizer": str(tokenizer), "codes": 64, **fields}


def test_codes_are_those_of_the_model_and_go_with_the_codec(
    tokenizer: Path, tmp_path: Path
) -> None:
    config = ModalityConfig.from_tree(codes(tokenizer))
    codec = config.fit([])
    codec.save(tmp_path)
    again = config.load(tmp_path)
    base = load(tokenizer / "model")
    (picture,) = pictures(1)
    sample = codec.encode(picture)
    assert sample.grid == (4, 4)
    assert sample.values.shape == (16,)
    assert sample.values.max() < 64
    assert np.array_equal(again.encode(picture).values, sample.values)
    run = Run.open(tokenizer)
    segment = images(1, 0)
    values = torch.from_numpy(base.codecs["image"].encode(picture).values)[None]
    place = torch.cartesian_prod(torch.arange(1), torch.arange(4), torch.arange(4))[None] + 1
    segment = type(segment)("image", values, place, loss_weight=torch.ones(1, 16))
    (view,) = run.config.objective.build().views(Batch(0, {"s": segment}, KeyedRandom(0, 0)), {})
    output = base.model(view).streams["decoder"].x
    want = base.model.head("pixels").predict(output)[0].detach().numpy()
    decoded = codec.decode(sample.values, sample.grid)
    np.testing.assert_allclose(
        decoded, base.codecs["image"].decode(want, (4, 4)), rtol=1e-4, atol=1e-5
    )


def test_what_is_no_tokenizer_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pretrain vq"):
        ModalityConfig.from_tree({"name": "codes"}).fit([])
    with pytest.raises(DataError, match="holds no tokenizer"):
        ModalityConfig.from_tree(codes(tmp_path)).fit([])
    with pytest.raises(ConfigError, match=r"set model\.modalities\.codes\.codes=64"):
        ModalityConfig.from_tree(codes(tokenizer, codes=512)).fit([])


def test_later_codebooks_are_reported_later() -> None:
    """The delay of MusicGen, and back; the start stands where a codebook has nothing."""

    class Ids:
        class config:  # noqa: N801
            codes, codebooks = 9, 3

        class codec:  # noqa: N801
            end = None

        def encode(self, raw: Any) -> Any:
            return raw, (len(raw),)

        def decode(self, ids: Any, grid: Any) -> Any:
            return ids, grid

    config = ModalityConfig.from_tree({"name": "codes", "codes": 9, "codebooks": 3})
    codec = CodesCodec(config, Ids())  # type: ignore[arg-type]
    ids = np.arange(12).reshape(4, 3) % 9
    sample = codec.encode(ids)
    assert sample.values.tolist() == [
        [0, 9, 9],
        [3, 1, 9],
        [6, 4, 2],
        [0, 7, 5],
        [9, 1, 8],
        [9, 9, 2],
    ]
    back, grid = codec.decode(sample.values, sample.grid)
    assert np.array_equal(back, ids)
    assert grid == (4,)
    assert sample.units == 12


def test_a_space_of_codebooks_is_a_product_of_categories() -> None:
    space = CodebooksConfig(codes=5, codebooks=3).build(8).double()
    ids = torch.randint(0, 5, (2, 7, 3))
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    logits = space.predict(x)
    want = -logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).sum((-1, -2))
    torch.testing.assert_close(space.score(x, ids), want)
    one = space.embed(ids)
    other = space.embed(ids.roll(1, dims=-1))
    assert not torch.allclose(one, other)  # the second codebook's 3 is not the first's
    hidden = torch.zeros(2, 7, dtype=torch.bool)
    hidden[0, 0] = True
    assert torch.equal(space.embed(ids, hidden)[0, 0], space.mask)
    assert torch.equal(space.embed(ids, hidden)[1], one[1])


@pytest.mark.slow
def test_beit_tells_hidden_patches_better_than_the_most_frequent_code(
    tokenizer: Path, tmp_path: Path
) -> None:
    run = digits("beit", tmp_path / "beit", 160, codes=codes(tokenizer))
    rows = {row.baseline: row for row in evaluate(run, load(tmp_path / "beit" / "model"))}
    assert rows.keys() == {"unigram", "unigram by position"}
    assert rows["unigram"].verdict == "better"
    assert rows["unigram"].items == 6 * len(run.rows("validation")["codes"])  # 40 % of 16


def test_codes_reported_causally_are_pictures(tokenizer: Path, tmp_path: Path) -> None:
    tree = digits_causal(tokenizer)
    run = Run.create(tree, tmp_path / "run")
    run.train()
    base = load(tmp_path / "run" / "model")
    picture = base.generate(grid=(4, 4))
    assert picture.shape == (8, 8, 1)
    assert np.isfinite(picture).all()


def digits_causal(tokenizer: Path) -> RunConfig:
    tree: dict[str, Any] = find_recipe("image").build(2, "DATA").tree()
    tree["model"]["modalities"] = {"codes": codes(tokenizer)}
    source = {"source": DIGITS, "modality": "codes", "batch_size": 32, "sequence_length": 17}
    tree["data"]["sources"] = {"codes": source}
    tree["train"] |= {"steps": 20, "evaluate_every": 20, "save_every": 20}
    tree["machine"] = {"device": "cpu", "precision": "fp32", "compile": "off"}
    return RunConfig.from_tree(tree)


def test_positions_are_reported_in_their_pair() -> None:
    """The hidden places are the picture's, the values those of the codes at the same places."""
    picture = images(3, 0)
    place, weight = picture.position, picture.loss_weight
    ids = torch.arange(15).view(3, 5)
    output = type(picture)("codes", ids, place, loss_weight=weight)
    objective = ObjectiveConfig.from_tree(
        {"name": "masked", "mask_ratio": 0.5, "targets_from": {"image": "codes"}}
    )
    corrupt = {"image": ModalityConfig.from_tree(IMAGE).corruption()}
    batch = Batch(0, {"image": picture, "codes": output}, KeyedRandom(0, 0))
    (view,) = objective.build().views(batch, corrupt)
    (read,) = view.readouts
    (seen,) = view.streams[0].segments
    assert read.head == "codes"
    assert read.index is not None
    assert seen.masked is not None
    assert torch.equal(read.target, ids.gather(1, read.index))
    assert torch.equal(
        seen.masked, torch.zeros(3, 5).scatter(1, read.index, read.loss_weight).bool()
    )
    shifted = type(picture)("codes", ids, place + 1, loss_weight=weight)
    with pytest.raises(ConfigError, match="the same grid and sequence_length"):
        objective.build().views(Batch(0, {"image": picture, "codes": shifted}, batch.rng), corrupt)
    with pytest.raises(ValueError, match="needs image and codes row by row"):
        objective.check({"image": None, "codes": None})
