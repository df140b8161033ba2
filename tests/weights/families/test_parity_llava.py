"""LLaVA is right, by an independent implementation: random references of transformers.

Legend: B rows, P places of a picture, T places of a stream.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor

from broadbase.core.errors import ConfigError
from broadbase.core.view import (
    Predict,
    Readout,
    Score,
    Segment,
    Stream,
    StreamSegment,
    View,
    positions,
)
from broadbase.inference.autoregressive import SamplingConfig, continued
from broadbase.inference.base import Base
from broadbase.weights.folder import load, save
from support.parity import (
    PAD,
    ROWS,
    SIZE,
    Pair,
    close,
    gradients,
    ids,
    pictures,
    pictures_raw,
    pixels,
)
from support.references import IMAGE, LLAVA, Forced, llava, saved, stored

BEFORE, AFTER = 7, 9
SINGLE = "model.safetensors"


@pytest.fixture(scope="module", params=LLAVA)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A reference, what our loader makes of its folder, and the folder."""
    folder = tmp_path_factory.mktemp("reference")
    reference = saved(LLAVA[request.param], folder)
    return reference, load(folder), folder


def words(rows: int, slots: int) -> Tensor:
    return ids(rows, slots).clamp(max=IMAGE - 1)


def peer(reference: Any, before: Tensor, after: Tensor) -> Tensor:
    """The ids that references take: a picture's place holder for each of its places."""
    held = torch.full((len(before), reference.config.image_seq_length), IMAGE)
    return torch.cat([before, held, after], dim=1)


def line(first: int, slots: int, rows: int = ROWS) -> Tensor:
    """Places `first`, ... of a line: [B,N,3]."""
    return positions((first + slots,))[first:].expand(rows, -1, -1)


def view(base: Base, before: Tensor, after: Tensor, slots: int, *reads: Readout) -> View:
    """Text, a picture, text."""
    B, N = before.shape
    segments = (
        Segment("text", before, line(0, N, B)),
        StreamSegment("seen", line(N, slots, B)),
        Segment("text", after, line(N + slots, after.shape[1], B)),
    )
    seen = Stream("seen", "vision", (pictures(base).rows(0, B),))
    return View((seen, Stream("told", "main", segments, base.usage.attention, readouts=reads)))


def both(pair: Pair, *reads: Readout) -> tuple[Any, View]:
    """What references take, and our view of it."""
    reference, base, _ = pair
    given = words(ROWS, BEFORE + AFTER)
    before, after = given[:, :BEFORE], given[:, BEFORE:]
    taken = {"input_ids": peer(reference, before, after), "pixel_values": pixels()}
    return taken, view(base, before, after, reference.config.image_seq_length, *reads)


@torch.no_grad()
def test_logits(pair: Pair) -> None:
    reference, base, _ = pair
    taken, given = both(pair, Predict("text", "x"))
    expected = reference(**taken).logits
    assert expected.std() > 0.3
    assert close(base.model(given).predictions["x"], expected)
    other = reference(taken["input_ids"], pixel_values=pixels().flip(0)).logits
    assert (other - expected)[:, -1].abs().max() > 0.1  # the picture is read


@torch.no_grad()
def test_pictures_at_other_positions_and_padding(pair: Pair) -> None:
    """A picture comes first in memory and stands where its order says; rows of three lengths."""
    reference, base, _ = pair
    P = reference.config.image_seq_length
    starts, lengths = torch.tensor([[7], [0], [4]]), torch.tensor([[16], [11], [5]])
    values, place = words(ROWS, 16), torch.arange(16)
    shifted = place + P * (place >= starts)  # places of the text
    seen = starts + torch.arange(P)
    expected_ids = torch.full((ROWS, 16 + P), IMAGE).scatter(1, shifted, values)
    mask = torch.arange(16 + P) < lengths + P
    taken = {"input_ids": torch.where(mask, expected_ids, PAD), "attention_mask": mask.long()}
    expected = reference(**taken, pixel_values=pixels()).logits
    order = torch.cat([seen, shifted], dim=1)
    document = torch.where(place < lengths, 0, -1)
    spot = order.unsqueeze(-1).expand(-1, -1, 3)
    segments = (
        StreamSegment("seen", spot[:, :P], seen, torch.zeros_like(seen)),
        Segment("text", values, spot[:, P:], shifted, document),
    )
    stream = Stream("told", "main", segments, "causal", readouts=(Predict("text", "x"),))
    result = base.model(View((Stream("seen", "vision", (pictures(base),)), stream)))
    ours = torch.zeros_like(expected)
    ours.scatter_(1, order.unsqueeze(-1).expand_as(expected), result.predictions["x"])
    assert close(ours[mask], expected[mask])


@torch.no_grad()
def test_two_pictures_in_a_row(pair: Pair) -> None:
    reference, base, _ = pair
    P, given = reference.config.image_seq_length, words(ROWS, 5)
    held = torch.full((ROWS, P), IMAGE)
    taken = torch.cat([held, given[:, :2], held, given[:, 2:]], dim=1)
    two = torch.stack([pixels(), pixels().flip(0)], dim=1).flatten(0, 1)
    expected = reference(taken, pixel_values=two).logits
    segments = (
        StreamSegment("one", line(0, P)),
        Segment("text", given[:, :2], line(P, 2)),
        StreamSegment("two", line(P + 2, P)),
        Segment("text", given[:, 2:], line(2 * P + 2, 3)),
    )
    one = pictures(base)
    streams = (
        Stream("one", "vision", (one,)),
        Stream("two", "vision", (one.map(lambda tensor: tensor.flip(0)),)),
        Stream("told", "main", segments, "causal", readouts=(Predict("text", "x"),)),
    )
    assert close(base.model(View(streams)).predictions["x"], expected)


def test_gradients(pair: Pair) -> None:
    """Of the mean cross-entropy of the text after the picture, for every tensor that is used."""
    reference, base, folder = pair
    taken, _ = both(pair)
    slots = taken["input_ids"].shape[1]
    index = torch.arange(slots - AFTER, slots).expand(ROWS, -1)
    target = words(ROWS, AFTER).roll(3, 1)
    read = Score("text", "x", target, torch.ones(target.shape), index)
    reference.zero_grad()
    logits = reference(**taken).logits[:, -AFTER:]
    F.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
    base.model.zero_grad()
    base.model(both(pair, read)[1]).scores["x"].mean().backward()
    compared = list(gradients(reference, base, folder))
    assert {name.split(".")[0] for name, *_ in compared} == {"spaces", "towers", "connectors"}
    assert len(compared) == sum(not n.endswith(".mask") for n, _ in base.model.named_parameters())
    for name, ours, expected in compared:
        assert close(ours, expected, 1e-4), name


@pytest.mark.parametrize("name", LLAVA)
def test_cached_greedy_generation(name: str, tmp_path: Path) -> None:
    """64 steps after a picture: the same ids, and the same logits after ids that vary."""
    reference = saved(LLAVA[name], tmp_path)
    pair = reference, load(tmp_path), tmp_path
    base, (taken, start) = pair[1], both(pair)
    first = taken["input_ids"].shape[1]
    reference.generation_config.eos_token_id = None
    how = {"max_new_tokens": 64, "do_sample": False, "suppress_tokens": [IMAGE]}
    seen = torch.ones_like(taken["input_ids"])
    expected = reference.generate(**taken, attention_mask=seen, **how)[:, first:]
    following = positions((first + 64,))[first:]
    greedy = SamplingConfig(temperature=0).build()

    def choose(logits: Tensor) -> Tensor:
        return greedy(logits.index_fill(-1, torch.tensor([IMAGE]), -torch.inf))

    ours = torch.cat(list(continued(base.model, start, following, choose)), dim=1)
    assert torch.equal(ours, expected)
    forced = Forced(words(ROWS, 64))
    list(continued(base.model, start, following, forced))
    complete = torch.cat([taken["input_ids"], forced.values[:, :-1]], dim=1)
    with torch.no_grad():
        logits = reference(complete, pixel_values=pixels()).logits[:, first - 1 :]
    assert close(torch.cat(forced.seen, dim=1), logits)


@pytest.mark.parametrize("name", LLAVA)
def test_a_round_trip_keeps_every_byte(name: str, tmp_path: Path) -> None:
    """Also of the layers that are not used."""
    saved(LLAVA[name], tmp_path / "theirs")
    base = load(tmp_path / "theirs")
    assert base.origin is not None
    assert any("post_layernorm" in name for name in base.origin.unused_tensors)
    save(base, tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")
    configs = [json.loads((tmp_path / w / "config.json").read_text()) for w in ("ours", "theirs")]
    assert configs[0] == configs[1]


SPELLINGS: dict[str, Callable[[str], str]] = {
    "hub": lambda name: name.replace("vision_tower.", "vision_tower.vision_model."),
    "since 4.52": lambda name: (
        f"model.{name}".replace("vision_tower.", "vision_tower.vision_model.")
        .replace("model.language_model.model.", "model.language_model.")
        .replace("model.language_model.lm_head.", "lm_head.")
    ),
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_other_names_of_the_same(kind: str, tmp_path: Path) -> None:
    saved(llava, tmp_path)
    complete = load(tmp_path).model.state_dict()
    tensors = load_file(tmp_path / SINGLE)
    renamed = {SPELLINGS[kind](name): tensor for name, tensor in tensors.items()}
    assert len(renamed.keys() - tensors.keys()) > 20
    save_file(renamed, tmp_path / SINGLE, {"format": "pt"})
    base = load(tmp_path)
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, complete[name])
    save(base, tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path)


def test_the_base_reads_pictures_both_ways_and_tells_text(tmp_path: Path) -> None:
    """Each by itself, with the tokenizer of the folder; also after leaving in our own layout."""
    reference = saved(llava, tmp_path)
    words = {f"w{i}": i for i in range(90)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(tmp_path / "tokenizer.json"))
    base = load(tmp_path)
    raw = pictures_raw()
    with torch.no_grad():
        config: Any = base.config.modalities["image"]
        normal = torch.from_numpy((raw - config.mean) / config.deviation).float()
        tower = reference.model.vision_tower
        states = tower(normal.permute(2, 0, 1)[None], output_hidden_states=True).hidden_states[-2]
    result = base.embed([raw], modality="image", layers=False)
    assert close(torch.from_numpy(result), states.mean(dim=1))
    said = base.generate("w5", modality="text", max_new_tokens=3)
    assert len(said.split()) <= 3
    with pytest.raises(ConfigError, match="cannot generate"):
        base.generate(raw, modality="image")
    other = replace(base, origin=None)  # as if it were changed
    save(other, tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert (again.embed([raw], modality="image", layers=False) == result).all()
    assert again.generate("w5", modality="text", max_new_tokens=3) == said


def test_a_config_that_leaves_much_out(tmp_path: Path) -> None:
    """As on the hub: text_config says only what differs from Llama's first."""
    reference = saved(llava, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    given = config["text_config"]
    for field in ("hidden_act", "rms_norm_eps", "bos_token_id", "pretraining_tp", "mlp_bias"):
        assert given.pop(field) is not None
    for field in ("num_channels", "hidden_act", "layer_norm_eps"):
        assert config["vision_config"].pop(field)
    for field in ("vision_feature_layer", "vision_feature_select_strategy"):
        assert config.pop(field)
    (tmp_path / "config.json").write_text(json.dumps(config))
    taken, start = both((reference, load(tmp_path), tmp_path), Predict("text", "x"))
    with torch.no_grad():
        ours = load(tmp_path).model(start).predictions["x"]
        assert close(ours, reference(**taken).logits)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("vision_feature_layer", [-2, 0], "=0 is none of 3 layers"),
        ("vision_feature_layer", -5, "none of 3 layers"),
        ("vision_feature_layer", -4, "none of 3 layers"),
        ("vision_config", {"model_type": "siglip_vision_model"}, "model_type="),
        ("text_config", {"model_type": "qwen2"}, "model_type="),
    ],
)
def test_what_is_not_supported_is_named(
    field: str, value: Any, message: str, tmp_path: Path
) -> None:
    saved(llava, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config[field] = {**config[field], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)


def test_a_picture_read_as_other_positions_is_an_error(tmp_path: Path) -> None:
    saved(llava, tmp_path)
    base = load(tmp_path)
    wrong = view(base, words(ROWS, 2), words(ROWS, 2), (SIZE // 4) ** 2 + 1)
    with pytest.raises(
        ConfigError, match=r"vision>main gives 25 tokens, and the stream 'seen' is read as 26"
    ):
        base.model(wrong)
