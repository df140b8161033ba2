"""Vision transformers are right, by independent implementations: random references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.errors import DataError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import combine
from broadbase.core.view import (
    MaskedSegment,
    Predict,
    Readout,
    Segment,
    Stream,
    StreamSegment,
    View,
)
from broadbase.inference.base import Base
from broadbase.modalities.noise import Hide
from broadbase.objectives.masks import gather
from broadbase.weights.folder import load, save
from support.parity import ROWS, close, gradients, ids, pictures, pictures_raw, pixels, segment
from support.references import BEIT, MEETING, VISION, clip, saved, siglip, stored, vit_mae


def states(base: Base, tower: str = "main", read: Readout | None = None) -> Any:
    reads = () if read is None else (read,)
    return base.model(View((Stream("main", tower, (pictures(base),), readouts=reads),)))


@pytest.mark.parametrize("name", VISION)
def test_hidden_states_and_gradients(name: str, tmp_path: Path) -> None:
    reference = saved(VISION[name], tmp_path)
    base = load(tmp_path)
    backbone = getattr(reference, "vit", reference)
    peer = backbone(pixels()).last_hidden_state
    registers = getattr(reference.config, "num_register_tokens", 0)
    peer = torch.cat([peer[:, :1], peer[:, 1 + registers :]], dim=1)
    ours = states(base).streams["main"].x
    assert peer.std() > 0.3
    assert close(ours, peer)
    weight = torch.randn(peer.shape, generator=torch.manual_seed(3))
    (peer * weight).mean().backward()
    (ours * weight).mean().backward()
    compared = list(gradients(reference, base, tmp_path))
    assert len(compared) > 20
    for tensor, result, expected in compared:
        assert close(result, expected, 1e-4), tensor


@pytest.mark.parametrize("name", [*VISION, *MEETING, *BEIT])
def test_a_round_trip_keeps_every_byte(name: str, tmp_path: Path) -> None:
    saved((VISION | MEETING | BEIT)[name], tmp_path / "theirs")
    base = load(tmp_path / "theirs")
    save(base, tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")
    assert base.embed([pictures_raw()], modality="image", layers=False).shape == (1, 48)


@pytest.mark.parametrize("name", [name for name in BEIT if name != "beit labels"])
def test_beit(name: str, tmp_path: Path) -> None:
    """The loss of hidden blocks, told in codes by the objective, and its gradient."""
    reference = saved(BEIT[name], tmp_path)
    base = load(tmp_path)
    picture = pictures(base)
    counts = torch.ones(picture.position.shape[:2], dtype=torch.float64)
    counts[:, 0] = 0  # the start is never hidden
    picture = replace(picture, loss_weight=counts)
    codes = Segment("codes", ids(ROWS, 26), picture.position)
    output = {
        "name": "masked",
        "mask_ratio": 0.4,
        "masks": {"name": "blocks"},
        "targets_from": {"s": "codes"},
    }
    objective = ObjectiveConfig.from_tree(output).build()
    batch = Batch(0, {"s": picture, "codes": codes}, KeyedRandom(0, 0))
    views = objective.views(batch, {"image": Hide()})
    hidden = views[0].streams[0].segments[0].masked
    assert hidden is not None
    assert 20 < hidden.sum() < 40
    assert not hidden[:, 0].any()
    labels = codes.values[:, 1:][hidden[:, 1:]]
    peer = reference(pixels(), bool_masked_pos=hidden[:, 1:], labels=labels).loss
    scored = objective.loss([base.model(views[0])], views)
    ours = combine(scored, objective.term_weights(views))
    assert float(ours) == pytest.approx(float(peer), rel=1e-5)
    peer.backward()
    ours.backward()
    compared = list(gradients(reference, base, tmp_path))
    assert any("own" in tensor for tensor, *_ in compared)
    assert len(compared) > 40
    for tensor, result, expected in compared:
        assert close(result, expected, 1e-4), tensor


def test_beit_of_a_classifier(tmp_path: Path) -> None:
    """The states that its mean is of: the encoder ends without a norm."""
    reference = saved(BEIT["beit labels"], tmp_path)
    with torch.no_grad():
        peer = reference.beit(pixels()).last_hidden_state
        ours = states(load(tmp_path)).streams["main"].x
    assert close(ours, peer)


def test_offsets_of_older_files_are_verified(tmp_path: Path) -> None:
    """They hold the numbers of the offsets too, which transformers computes anew."""
    reference = saved(BEIT["beit"], tmp_path)
    bias = next(m for m in reference.modules() if hasattr(m, "relative_position_bias_table"))
    index = bias.generate_relative_position_index((5, 5)).clone()  # transformers keeps the tensor
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["beit.encoder.relative_position_bias.relative_position_index"] = index
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    save(load(tmp_path), tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path)
    index[3, 4] += 1
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"relative_position_index.*derived"):
        load(tmp_path)


def test_labels_of_vit(tmp_path: Path) -> None:
    """The classifier reads the start."""
    reference = saved(VISION["vit labels"], tmp_path)
    base = load(tmp_path)
    read = Predict("label", "x", index=torch.zeros(ROWS, 1, dtype=torch.int64))
    with torch.no_grad():
        peer = reference(pixels()).logits
        ours = states(base, read=read).predictions["x"][:, 0]
    assert close(ours, peer)


def joined(base: Base, given: Segment, reads: dict[str, Readout]) -> Any:
    """What is told of pictures and of texts in the joint Space."""
    output = Stream("text", "text", (given,), readouts=(reads["text"],))
    seen = Stream("image", "image", (pictures(base),), readouts=(reads["image"],))
    return base.model(View((seen, output))).predictions


def same_gradients(reference: Any, base: Base, folder: Path, ours: Tensor, peer: Tensor) -> None:
    """Of the cross-entropy of the pairs' logits [B,B], each picture with the text of its row."""
    for logits in (ours, peer):
        F.cross_entropy(logits, torch.arange(ROWS)).backward()
    compared = list(gradients(reference, base, folder))
    assert len(compared) > 60
    for tensor, result, expected in compared:
        assert close(result, expected, 1e-4), tensor


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clip(tmp_path: Path, act: str) -> None:
    """Both vectors, the logits they make, and their gradient; texts of three lengths end at their
    first end value, and what follows is not seen."""
    reference = saved(lambda: clip(act), tmp_path)
    base, end = load(tmp_path), torch.tensor([[8], [4], [6]])
    given = ids(ROWS, 9).clamp(max=90).scatter(1, end, 96)
    peer = reference(input_ids=given, pixel_values=pixels())
    picture = Predict("image_joint", "image", pooled=True)
    at_end = Predict("text_joint", "text", index=end), Predict("text_joint", "text", pooled=True)
    order, place = torch.arange(9).expand(ROWS, -1), torch.arange(9)
    padded = segment(given, order=order, document=torch.where(place <= end, 0, -1))
    for one, text in zip((segment(given), padded), at_end, strict=True):
        result = joined(base, one, {"image": picture, "text": text})
        seen, output = result["image"][:, 0], result["text"][:, 0]
        assert close(seen[:, :-1], peer.image_embeds)
        assert close(output[:, :-1] / reference.logit_scale.exp(), peer.text_embeds)
        assert close(seen @ output.T, peer.logits_per_image)
    same_gradients(reference, base, tmp_path, seen @ output.T, peer.logits_per_image)


def test_siglip(tmp_path: Path) -> None:
    """Both vectors, the logits they make, and their gradient."""
    reference = saved(siglip, tmp_path)
    slots = 9
    with torch.no_grad():
        reference.logit_scale.fill_(4.9)  # more than CLIP ever has
    reference.save_pretrained(tmp_path)
    base, given = load(tmp_path), ids(ROWS, slots)
    peer = reference(input_ids=given, pixel_values=pixels())
    reads = {side: Predict(f"{side}_joint", side, pooled=True) for side in ("image", "text")}
    result = joined(base, segment(given), reads)
    image, text = result["image"][:, 0], result["text"][:, 0]
    assert close(image[:, :-1], peer.image_embeds)
    assert close(text[:, :-1] / reference.logit_scale.exp(), peer.text_embeds)
    assert close(image @ text.T, peer.logits_per_image)
    same_gradients(reference, base, tmp_path, image @ text.T, peer.logits_per_image)


def test_vit_mae(tmp_path: Path) -> None:
    """What is told of the hidden places, and the gradient of it; the noise says which they are."""
    reference = saved(vit_mae, tmp_path)
    base, slots, seen = load(tmp_path), 25, 10
    noise = torch.rand(ROWS, slots, generator=torch.manual_seed(5))
    peer = reference(pixels(), noise=noise).logits
    order = noise.argsort(dim=1)
    zero = torch.zeros(ROWS, 1, dtype=torch.int64)
    keep, hidden = torch.cat([zero, 1 + order[:, :seen]], dim=1), 1 + order[:, seen:]
    full = pictures(base)
    given = Segment("image", gather(full.values, keep), gather(full.position, keep))
    output = MaskedSegment("pixels", gather(full.position, hidden))
    read = Predict("pixels", "x", index=seen + 1 + torch.arange(slots - seen).expand(ROWS, -1))
    streams = (
        Stream("encoder", "encoder", (given,)),
        Stream(
            "decoder",
            "decoder",
            (StreamSegment("encoder", given.position), output),
            readouts=(read,),
        ),
    )
    ours = base.model(View(streams)).predictions["x"]
    expected = gather(peer, hidden - 1)
    assert expected.std() > 0.3
    assert close(ours, expected)
    weight = torch.randn(ours.shape, generator=torch.manual_seed(3))
    (expected * weight).mean().backward()
    (ours * weight).mean().backward()
    fixed = ".positions.place.weight"  # sines there, and not trained
    compared = [g for g in gradients(reference, base, tmp_path) if not g[0].endswith(fixed)]
    assert len(compared) > 40
    for tensor, result, wanted in compared:
        assert close(result, wanted, 1e-4), tensor
