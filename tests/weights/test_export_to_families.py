"""Bases trained here leave as published families: transformers opens them and computes the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import (
    MaskedSegment,
    Predict,
    Segment,
    Stream,
    StreamSegment,
    View,
    positions,
)
from broadbase.evaluate.registry import evaluate
from broadbase.inference.autoregressive import SamplingConfig, continued
from broadbase.inference.base import Base
from broadbase.inference.conditioning import with_document_ids
from broadbase.inference.documents import prompts
from broadbase.inference.usages import plain_usage
from broadbase.modalities.image import ImageConfig
from broadbase.modalities.published_image import PublishedImageConfig
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.recipes.recipe import all_recipes
from broadbase.recipes.resolve import as_family_of, resolve
from broadbase.run.config import RunConfig
from broadbase.run.run import Run
from broadbase.weights.folder import load, save
from broadbase.weights.match import as_family, families, match
from broadbase.weights.parity import differences
from broadbase.weights.sizes import Ends
from support.parity import close
from support.recipes import OWN_DATA, small

LEAVES = {  # recipe: the family it is made as_family, and what transformers opens it as
    "mae": ("vit_mae", hf.ViTMAEForPreTraining),
    "dino": ("vit", hf.ViTModel),
    "beit": ("beit", hf.BeitForMaskedImageModeling),
    "clip": ("clip", hf.CLIPModel),
    "t5": ("t5", hf.T5ForConditionalGeneration),
    "esm": ("esm", hf.EsmForMaskedLM),
}
UNTRAINED = {"vit": {"pooler"}, "esm": {"contact_head"}}  # parts of theirs that no recipe trains
TEXTS = ["the licence of the work", "a contributor", "MKTAYIAKQR", "may"]


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """Each recipe, 20 steps at depth 1, as_family its family."""
    folder, result = tmp_path_factory.mktemp("out"), {}
    for name, (family, _) in LEAVES.items():
        tree = as_family_of(small(name, corpus).tree(), family)
        result[name] = Run.create(RunConfig.from_tree(tree), folder / name)
        result[name].train()
        done = CliRunner().invoke(app, ["export", str(folder / name), "--to", "hf", "--out",
                                        str(folder / f"{name}-hf")])  # fmt: skip
        assert done.exit_code == 0, done.exception
    return result


def left(runs: Mapping[str, Run], name: str) -> Path:
    return runs[name].folder.with_name(f"{name}-hf")


@pytest.mark.parametrize("name", LEAVES)
def test_transformers_opens_it_in_one_line_and_computes_the_same(
    runs: Mapping[str, Run], name: str
) -> None:
    """Hidden states, logits or joint vectors, ids with padding too; before and after export."""
    family, kind = LEAVES[name]
    folder = left(runs, name)
    opened, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    computed = ("position_ids", "inv_freq")  # by their config
    missing = {key for key in report["missing_keys"] if not key.endswith(computed)}
    untrained = UNTRAINED.get(family, set())
    assert all(any(part in key for part in untrained) for key in missing), missing
    rows = differences(folder)
    assert rows
    assert all(row["difference"] < 1e-5 for row in rows), rows
    actual, again = load(runs[name].folder / "model"), load(folder)
    assert actual.config == again.config == runs[name].config.model
    for key, value in actual.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key
    scratch = runs[name].base().model.state_dict()
    moved = [
        key
        for key, value in scratch.items()
        if not torch.equal(value, actual.model.state_dict()[key])
    ]
    assert len(moved) > 0.7 * len(scratch)
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == family
    assert opened.config.architectures == [kind.__name__]
    assert f"{kind.__name__}.from_pretrained" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["mae", "dino", "beit", "clip"])
def test_the_image_processor_gives_the_numbers_of_the_codec(
    runs: Mapping[str, Run], name: str
) -> None:
    """Of a picture that is resized; by transformers' PIL backend."""
    processor = hf.AutoImageProcessor.from_pretrained(left(runs, name))
    image = Image.fromarray((load_digits().images[3] * 15).astype("uint8")).convert("RGB")
    reference = torch.as_tensor(processor(image, return_tensors="pt").pixel_values[0])
    codec: Any = load(left(runs, name)).codecs["image"]
    sample = codec.encode(image)
    c, (rows, columns) = codec.config, sample.grid
    patches = sample.values.reshape(rows, columns, c.patch, c.patch, c.channels)
    ours = patches.transpose(4, 0, 2, 1, 3).reshape(c.channels, c.size, c.size)
    assert ours.std() > 0.1
    assert np.abs(reference.numpy() - ours).max() < 1e-2 * 4  # a level of 255, and its rounding
    assert np.abs(reference.numpy() - ours).mean() < 1e-2


@pytest.mark.parametrize("name", ["clip", "t5", "esm"])
def test_the_tokenizer_gives_the_ids_of_the_codec_padding_apart(
    runs: Mapping[str, Run], name: str
) -> None:
    folder = left(runs, name)
    base, words = load(folder), hf.AutoTokenizer.from_pretrained(folder)
    space = next(kind for kind in base.codecs if kind != "image")
    texts = TEXTS[2:3] * 2 + ["MK"] if name == "esm" else TEXTS
    result = words(texts, padding=True, return_tensors="pt")
    actual = prompts(space, base.codecs[space], texts, closed=True)
    assert actual.document is not None
    assert torch.equal(result.attention_mask, (actual.document >= 0).long())
    real = actual.document >= 0
    assert torch.equal(result.input_ids[real], actual.values[real])
    size = base.model.spaces[space].embedding.weight.shape[0]
    assert len(words) == size
    assert not {f"<extra_id_{i}>" for i in range(3)} - {*words.get_vocab()} or name != "t5"
    assert (words.mask_token is not None) == (name == "esm")


@torch.no_grad()
def test_a_padded_batch_of_texts_and_a_picture_are_read_as_ours(runs: Mapping[str, Run]) -> None:
    """CLIP from raw records: tokenizer and processor theirs, codecs ours."""
    folder = left(runs, "clip")
    base, reference = load(folder), hf.CLIPModel.from_pretrained(folder)
    words = hf.AutoTokenizer.from_pretrained(folder)
    result = words(TEXTS, padding=True, return_tensors="pt")
    image = Image.new("RGB", (32, 32), (200, 30, 90))
    seen = hf.AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")
    expected = reference(**{k: result[k] for k in ("input_ids", "attention_mask")}, **seen)
    streams = [
        Stream(kind, base.tower(kind), (prompts(kind, base.codecs[kind], raws, closed=True),),
               readouts=(Predict(f"{kind}_joint", kind, pooled=True),))
        for kind, raws in (("image", [image]), ("text", TEXTS))
    ]  # fmt: skip
    image_1K, text_BK = (base.model(View((s,))).predictions[s.name][:, 0] for s in streams)
    assert close(image_1K @ text_BK.T, expected.logits_per_image)


@torch.no_grad()
def test_t5_writes_what_it_writes_here(runs: Mapping[str, Run], tmp_path: Path) -> None:
    """Greedy, token for token, after encoded rows of different lengths."""
    base, words = load(left(runs, "t5")), hf.AutoTokenizer.from_pretrained(left(runs, "t5"))
    chance = torch.manual_seed(0)
    for module in (base.model.spaces["text"].output, base.model.spaces["text"].embedding):
        module.weight.normal_(generator=chance)  # so that what is written varies
    save(base, tmp_path / "t5")
    reference = hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "t5")
    result = words(TEXTS[:2], padding=True, return_tensors="pt")
    reference.generation_config.eos_token_id = None
    expected = reference.generate(**{k: result[k] for k in ("input_ids", "attention_mask")},
                               max_new_tokens=32, do_sample=False)  # fmt: skip
    given = prompts("text", base.codecs["text"], TEXTS[:2], closed=True)
    start = torch.full((2, 1), int(base.codecs["text"].start))
    message = with_document_ids(Segment("text", start, positions((1,)).expand(2, -1, -1)))
    view = View((Stream("encoder", "encoder", (given,)),
                 Stream("decoder", "decoder", (message,), "causal", "encoder")))  # fmt: skip
    greedy = SamplingConfig(temperature=0).build()
    ours = torch.cat(list(continued(base.model, view, positions((33,))[1:], greedy)), dim=1)
    assert len(set(ours.flatten().tolist())) > 4
    assert torch.equal(ours, expected[:, 1:])


@torch.no_grad()
def test_vit_mae_tells_hidden_patches_as_ours(runs: Mapping[str, Run]) -> None:
    folder = left(runs, "mae")
    base, reference = load(folder), hf.ViTMAEForPreTraining.from_pretrained(folder)
    codec: Any = base.codecs["image"]
    side = codec.config.size // codec.config.patch
    raw = np.random.default_rng(0).random((codec.config.size, codec.config.size, 3))
    complete = prompts("image", codec, [raw])
    noise = torch.rand(1, side * side, generator=torch.manual_seed(1))
    seen = int(side * side * (1 - reference.config.mask_ratio))
    order = 1 + noise.argsort(dim=1)[0]
    keep, hidden = torch.cat([torch.zeros(1, dtype=torch.int64), order[:seen]]), order[seen:]
    given = Segment("image", complete.values[:, keep], complete.position[:, keep])
    hole = MaskedSegment("pixels", complete.position[:, hidden])
    read = Predict("pixels", "x", index=(seen + 1 + torch.arange(len(hidden)))[None])
    view = View((
        Stream("encoder", "encoder", (given,)),
        Stream("d", "decoder", (StreamSegment("encoder", given.position), hole), readouts=(read,)),
    ))  # fmt: skip
    pixels = torch.from_numpy(((raw - codec.mean) / codec.deviation).transpose(2, 0, 1)).float()
    expected = reference(pixels[None], noise=noise).logits[:, hidden - 1]
    assert close(base.model(view).predictions["x"], expected)


@pytest.mark.parametrize("name", ["clip", "t5", "esm"])
def test_what_it_learned_is_measured_as_before(runs: Mapping[str, Run], name: str) -> None:
    assert evaluate(runs[name], load(left(runs, name)))


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_like_makes_one_of_the_family_and_changes_nothing_of_one(name: str) -> None:
    """Every recipe, every family that has its towers and Spaces; sizes stay."""
    config = resolve(name, None if name in OWN_DATA else "DATA", None)
    for family in families():
        result = match(config.model, family, Ends())
        if result is None or result.source.pattern != config.objective.pattern:
            with pytest.raises(ConfigError, match="it can be like"):
                as_family(config.model, family, config.objective.pattern, 32)
            continue
        model = as_family(config.model, family, config.objective.pattern, 32)
        again = match(model, family, Ends(length=32))
        assert again is not None
        assert not again.differences
        assert as_family(model, family, config.objective.pattern, 32) == model
        assert (model == config.model) == (not result.differences)
        for tower, actual in config.model.towers.items():
            assert model.towers[tower].width == actual.width
            assert len(model.towers[tower].build().blocks) == len(actual.build().blocks)
        assert ModelConfig.from_tree(model.tree()) == model


def untrained(name: str, data: Path) -> Base:
    config = small(name, data)
    model = config.model.build()
    initialise(model, 0)
    codecs = {
        kind: modality.fit(TEXTS)
        for kind, modality in config.model.modalities.items()
        if kind in {mixed.modality for mixed in config.data.sources.values()}
    }
    return Base(config.model, model.eval(), codecs, plain_usage(config.objective.pattern))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mae", ["vit_mae", "towers.encoder.positions is sinusoid and would be learned_2d"]),
        ("t5", ["t5", "modalities.text.tie_embeddings is true and would be false"]),
        ("clip", ["clip", "heads.image_joint.pooling is mean and would be first"]),
        (
            "esm",
            [
                "eurobert",
                "modalities.protein.token_dropout is 0.12 and would be none",
                "esm (9 settings)",
            ],
        ),
        ("dino", ["vit", "block.attention.qk_norm is rms and would be none"]),
    ],
)
def test_what_is_no_family_says_how_it_differs_and_what_to_train(
    name: str,
    words: list[str],
    corpus: Path,
    tmp_path: Path,
) -> None:
    save(untrained(name, corpus), tmp_path / "m")
    words = [f"this is no {words[0]}", f"--family {words[0]}", *words[1:]]
    command = ["export", str(tmp_path / "m"), "--to", "hf", "--out", str(tmp_path / "out")]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, ConfigError)
    assert all(word in str(error) for word in words), str(error)
    assert not (tmp_path / "out").exists()


def test_what_no_family_takes_is_reported(corpus: Path, tmp_path: Path) -> None:
    save(untrained("image", corpus), tmp_path / "m")
    command = ["export", str(tmp_path / "m"), "--to", "hf", "--out", str(tmp_path / "out")]
    error = CliRunner().invoke(app, command).exception
    assert "no published family has towers main (causal) and modalities image" in str(error)
    with pytest.raises(ConfigError, match="it can be like: llama"):
        resolve("text", "DATA", None, family="vit")
    with pytest.raises(ConfigError, match="it can be like: none"):
        resolve("dino", "DATA", None, ["model.modalities.image.height=32"], family="vit")
    with pytest.raises(ConfigError, match="is no family; did you mean `vit_mae`"):
        resolve("mae", "DATA", None, family="vitmae")


def test_changes_are_made_before_it_is_made_like() -> None:
    sizes = ["model.modalities.image.height=32", "model.modalities.image.width=32"]
    config = resolve("dino", "DATA", 2, sizes, family="vit")
    tree = config.tree()["model"]
    assert tree["modalities"]["image"]["size"] == 32
    assert tree["towers"]["main"]["positions"] == {
        "name": "learned_2d", "rows": 4, "columns": 4, "start": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "family", "change", "undone"),
    [
        ("dino", "vit", "model.towers.main.layers.0.block.attention.qk_norm.eps=1e-3", True),
        ("dino", "vit", "model.towers.main.layers.0.block.feedforward.activation=relu", True),
        (
            "dino",
            "vit",
            "model.towers.main.layers.0.block.feedforward={name: gated, hidden_width: 99}",
            True,
        ),
        ("dino", "vit", "model.towers.main.positions.theta=500", True),
        ("dino", "vit", "model.modalities.image.levels=16", True),
        ("dino", "vit", "model.modalities.image.patch=4", False),
        ("dino", "vit", "model.towers.main.layers.0.repeat=3", False),
        ("text", "llama", "model.towers.main.positions.theta=500", False),
    ],
)
def test_a_change_that_a_family_undoes_is_refused(
    recipe: str, family: str, change: str, undone: bool
) -> None:
    path = change.partition("=")[0]
    plain = resolve(recipe, "DATA", 2, family=family)
    if undone:
        with pytest.raises(ConfigError, match=f"--family {family}.*--set {re.escape(path)}"):
            resolve(recipe, "DATA", 2, [change], family=family)
    else:
        assert resolve(recipe, "DATA", 2, [change], family=family) != plain


def test_a_change_that_cannot_be_is_named_in_full_before_a_family_is_made() -> None:
    with pytest.raises(ConfigError, match=r"`model\.towers\.main\.width`"):
        resolve("dino", "DATA", 2, ["model.towers.main.width=0"], family="vit")


def test_crops_of_normalised_pictures_are_those_of_their_pixels() -> None:
    """The same boxes, light and sizes, normalised."""
    plain = ImageConfig(height=16, width=16, patch=4, levels=256)
    normal = PublishedImageConfig(size=16, patch=4)
    raw = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    result = []
    for modality in (plain, normal):
        codec = modality.fit([])
        values = torch.from_numpy(np.concatenate([codec.start[None], codec.encode(raw).values]))
        part, place = modality.corruption().crop(
            values.expand(6, -1, -1), 0.5, (0.2, 0.6), KeyedRandom(0, 0), "crop"
        )
        assert torch.equal(part[:, 0], values[0].expand(6, -1))
        result.append((part[:, 1:], place))
    (pixels, first), (values, second) = result
    assert torch.allclose(pixels, values * 0.5 + 0.5, atol=1e-5)
    assert torch.equal(first, second)
