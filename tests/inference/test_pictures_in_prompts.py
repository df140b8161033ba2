"""A picture among the words of a prompt, as a user gives it: equal to transformers' processor and
model on the same files.

Legend: B rows, T places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import ConfigError, DataError
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.base import Base
from broadbase.weights.folder import load, save
from support.llava import SIDE, photo, published
from support.parity import close
from support.references import LLAVA, clip, llama, saved

TEXTS = ("w5 w7 <image> w9 w33", "<image> w4 w8 <image>", "w11 w12 w13")
GREEDY = SamplingConfig(temperature=0)
SETTINGS: dict[str, dict[str, Any]] = {
    "cropped": {},
    "cropped from a larger": {"size": {"shortest_edge": 27}},
    "squeezed": {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False, "resample": 2},
    "padded": {"do_pad": True, "image_mean": [0.2, 0.6, 0.4]},
    "as they are": {"do_normalize": False},
    "of bytes": {"do_rescale": False, "image_mean": [120, 100, 90], "image_std": [60, 50, 40]},
}


def pictures(text: str) -> list[Image.Image]:
    """As many as the text names: wide, then high."""
    return [photo(53, 31), photo(17, 40, 1)][: text.count("<image>")]


def inputs(taken: Any, texts: Sequence[str], seen: Sequence[Sequence[Any]]) -> Any:
    flat = [picture for row in seen for picture in row]
    left = {"padding": True, "padding_side": "left"} if len(texts) > 1 else {}
    return taken(images=flat or None, text=list(texts), return_tensors="pt", **left)


@torch.no_grad()
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", LLAVA)
def test_logits(name: str, text: str, tmp_path: Path) -> None:
    reference, taken = published(name, tmp_path)
    expected = reference(**inputs(taken, [text], [pictures(text)])).logits[0]
    result = load(tmp_path).logits(text, attachments=pictures(text))
    assert result.shape == expected.shape
    assert close(result, expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision(kind: torch.dtype, tmp_path: Path) -> None:
    """As they are published; nearer to the reference in the same type than the type's own error."""
    reference, taken = published("llava", tmp_path)
    full = reference(**inputs(taken, [TEXTS[1]], [pictures(TEXTS[1])])).logits[0]
    reference.to(kind).save_pretrained(tmp_path)
    given = inputs(taken, [TEXTS[1]], [pictures(TEXTS[1])])
    expected = reference(**given | {"pixel_values": given["pixel_values"].to(kind)}).logits[0]
    result = load(tmp_path).logits(TEXTS[1], attachments=pictures(TEXTS[1]))
    assert result.dtype == kind
    assert (result - expected).abs().max() <= 2 * (expected - full).abs().max()
    assert (expected - full).abs().max() < 0.05 * full.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("style", ["whole", "alone"])
@pytest.mark.parametrize("name", SETTINGS)
def test_pictures_are_prepared_as_the_folder_says(name: str, style: str, tmp_path: Path) -> None:
    """Whether the settings stand in the file of the whole processor or in their own."""
    reference, taken = published("llava", tmp_path, SETTINGS[name])
    if style == "alone":
        full = tmp_path / "processor_config.json"
        own = json.loads(full.read_text()).pop("image_processor")
        full.write_text(json.dumps({"processor_class": "LlavaProcessor"}))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    base = load(tmp_path)
    seen = [photo(53, 31), photo(12, 40), photo(9, 9), photo(20, 20), photo(24, 31, mode="RGBA")]
    seen[-1].putalpha(photo(24, 31, 5, "L"))
    for picture in seen:
        given = inputs(taken, [TEXTS[0]], [[picture]])
        result = base.codecs["image"].encode(picture).values
        assert torch.allclose(patches(given["pixel_values"]), torch.from_numpy(result), atol=1e-5)
        assert close(base.logits(TEXTS[0], attachments=[picture]), reference(**given).logits[0])
    codec = base.codecs["image"]
    array = np.asarray(seen[0])
    assert (codec.encode(array).values == codec.encode(seen[0]).values).all()


def patches(pixels_13HW: Any) -> Any:
    """Rows of patches, as our codec cuts them."""
    cut = pixels_13HW[0].unfold(1, 4, 4).unfold(2, 4, 4)
    return cut.permute(1, 2, 3, 4, 0).reshape(25, -1)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", LLAVA)
def test_greedy_continuations_are_the_same(name: str, text: str, tmp_path: Path) -> None:
    reference, taken = published(name, tmp_path)
    given = inputs(taken, [text], [pictures(text)])
    expected = reference.generate(**given, max_new_tokens=64, do_sample=False)
    base = ids_alone(load(tmp_path))
    reported = base.generate(text, attachments=pictures(text), max_new_tokens=64, sampling=GREEDY)
    assert reported == expected[0, given["input_ids"].shape[1] :].tolist()


def test_a_batch_is_its_rows(tmp_path: Path) -> None:
    """Texts of other lengths with two pictures, one and none, side by side."""
    reference, taken = published("llava", tmp_path)
    seen = [pictures(text) for text in TEXTS]
    given = inputs(taken, TEXTS, seen)
    expected = reference.generate(**given, max_new_tokens=64, do_sample=False)
    base = ids_alone(load(tmp_path))
    reported = base.generate_batch(TEXTS, attachments=seen, max_new_tokens=64, sampling=GREEDY)
    assert reported == expected[:, given["input_ids"].shape[1] :].tolist()
    for text, row in zip(TEXTS, reported, strict=True):
        assert (
            base.generate(text, attachments=pictures(text), max_new_tokens=64, sampling=GREEDY)
            == row
        )


def ids_alone(base: Base) -> Base:
    """The same, which tells ids instead of words, and does not end."""
    codec: Any = base.codecs["text"]
    codec.end = None
    codec.decode = lambda values, _: [int(v) for v in values]
    return base


def test_a_changed_base_leaves_with_its_pictures_settings(tmp_path: Path) -> None:
    published("llava", tmp_path / "theirs", {"size": {"shortest_edge": 27}})
    base = load(tmp_path / "theirs")
    save(replace(base, origin=None), tmp_path / "ours")
    again, seen = load(tmp_path / "ours"), pictures(TEXTS[0])
    assert torch.equal(
        again.logits(TEXTS[0], attachments=seen), base.logits(TEXTS[0], attachments=seen)
    )
    save(base, tmp_path / "back")
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    peer = hf.AutoModelForImageTextToText.from_pretrained(tmp_path / "back")
    given = inputs(hf.AutoProcessor.from_pretrained(tmp_path / "back"), [TEXTS[0]], [seen])
    with torch.no_grad():
        assert close(base.logits(TEXTS[0], attachments=seen), peer(**given).logits[0])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    published("llava", tmp_path / "llava")
    base, one = load(tmp_path / "llava"), photo(9, 9)
    for text, given, count in ((TEXTS[0], [], 1), (TEXTS[1], [one], 2), (TEXTS[2], [one], 0)):
        message = f"given: {len(given)}; tokens .*: {count}; write '<image>' where each image"
        with pytest.raises(ConfigError, match=message):
            base.logits(text, attachments=given)
        with pytest.raises(ConfigError, match=message):
            base.generate(text, attachments=given)
    with pytest.raises(DataError, match="record 0 cannot be read as image: expected an image"):
        base.generate(TEXTS[0], attachments=["cat.png"])
    saved(llama, tmp_path / "llama")
    with pytest.raises(ConfigError, match="this base reads texts alone"):
        load(tmp_path / "llama").generate([4, 5, 6], attachments=[one])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_center_crop": False}, "no square of one size"),
        ({"do_resize": False}, "no square of one size"),
        ({"crop_size": {"height": 20, "width": 10}}, "crop_size=.* is no square"),
        ({"size": {"max_height": 20, "max_width": 20}}, "not as published.*height"),
        ({"resample": 17}, "not as published.*17"),
    ],
)
def test_settings_that_no_tower_takes(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    saved(clip, tmp_path)
    recorded = {"size": {"shortest_edge": SIDE}, "do_center_crop": True, "crop_size": SIDE}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**recorded, **settings}))
    with pytest.raises(DataError, match=message):
        load(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(DataError, match=r"preprocessor_config\.json is not JSON"):
        load(tmp_path)


def test_another_size_than_the_towers_keeps_what_is_seen(tmp_path: Path) -> None:
    """As DINOv2's: the same middle of the picture, at the tower's size; also by old files."""
    saved(clip, tmp_path)
    codecs = []
    for edge, crop in ((25, 20), (50, 40)):
        recorded = {"size": edge, "do_center_crop": True, "crop_size": crop}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(recorded))
        codecs.append(load(tmp_path).codecs["image"])
    one, other = (codec.encode(photo(60, 40)).values for codec in codecs)
    assert (one == other).all()


def test_answers_from_the_shell(tmp_path: Path) -> None:
    published("llava", tmp_path / "llava")
    turned = photo(40, 21)
    turned.getexif()[0x0112] = 6  # shown after a quarter turn
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    words = ["generate", str(tmp_path / "llava"), "--temperature", "0", "--max-new-tokens", "12"]
    words += ["--prompt", TEXTS[0], "--json"]
    seen = {}
    for name, picture in (("turned", turned), ("upright", turned.rotate(-90, expand=True))):
        if name == "upright":
            picture.save(tmp_path / "upright.png", exif=Image.Exif())
        done = CliRunner().invoke(app, [*words, "--image", str(tmp_path / f"{name}.png")])
        assert done.exit_code == 0, done.output
        seen[name] = json.loads(done.stdout)["continuation"]
    upright = turned.rotate(-90, expand=True)
    expected = load(tmp_path / "llava").generate(
        TEXTS[0], attachments=[upright], max_new_tokens=12, sampling=GREEDY
    )
    assert seen == {"turned": expected, "upright": expected}
    for file, message in (("no.png", r"no\.png cannot be read"), ("llava/config.json", "Pillow")):
        done = CliRunner().invoke(app, [*words, "--image", str(tmp_path / file)])
        assert isinstance(done.exception, DataError)
        assert re.search(message, str(done.exception))
