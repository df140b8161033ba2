"""Encoder-decoders are right, by independent implementations: random references of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import Tensor

from broadbase.core.view import Predict, Readout, Score, Segment, Stream, View, positions
from broadbase.inference.autoregressive import SamplingConfig, continued
from broadbase.inference.base import Base
from broadbase.weights.folder import load, save
from support.parity import PAD, Pair, close, gradients, ids, segment
from support.references import PAIRED, Forced, saved, stored, whisper

ENCODED, DECODED = 24, 15


@pytest.fixture(scope="module", params=PAIRED)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A reference, what our loader makes of its folder, and the folder."""
    folder = tmp_path_factory.mktemp("reference")
    reference = saved(PAIRED[request.param], folder)
    return reference, load(folder), folder


def view(encoded: Segment, decoded: Segment, read: Readout | None = None) -> View:
    read = read or Predict("text", "x")
    return View(
        (
            Stream("encoder", "encoder", (encoded,)),
            Stream("decoder", "decoder", (decoded,), "causal", "encoder", (read,)),
        )
    )


def logits(base: Base, encoded: Segment, decoded: Segment) -> Tensor:
    return base.model(view(encoded, decoded)).predictions["x"]


@torch.no_grad()
def test_logits(pair: Pair) -> None:
    reference, base, _ = pair
    one, other = ids(3, ENCODED), ids(3, DECODED)
    peer = reference(input_ids=one, decoder_input_ids=other).logits
    assert peer.std() > 0.3
    assert close(logits(base, segment(one), segment(other)), peer)


@torch.no_grad()
def test_logits_with_padding(pair: Pair) -> None:
    """Of the encoder's rows, which the decoder then does not see either."""
    reference, base, _ = pair
    real = torch.arange(ENCODED) < torch.tensor([[24], [17], [11]])
    one, other = torch.where(real, ids(3, ENCODED), PAD), ids(3, DECODED)
    peer = reference(input_ids=one, attention_mask=real.long(), decoder_input_ids=other).logits
    order = torch.arange(ENCODED).expand(3, -1)
    encoded = segment(one, document=torch.where(real, 0, -1), order=order)
    order = torch.arange(DECODED).expand(3, -1)
    decoded = segment(other, document=torch.zeros_like(other), order=order)
    assert close(logits(base, encoded, decoded), peer)


def packed(values: Tensor, sizes: tuple[int, ...]) -> Segment:
    order = torch.cat([torch.arange(n) for n in sizes])[None]
    document = torch.cat([torch.full((n,), d) for d, n in enumerate(sizes)])[None]
    return Segment("text", values, order.unsqueeze(-1).expand(-1, -1, 3), order, document)


@torch.no_grad()
def test_packed_documents(pair: Pair) -> None:
    reference, base, _ = pair
    one, other, sizes, output = ids(1, ENCODED), ids(1, DECODED), (13, 11), (6, 9)
    pairs = zip(one.split(sizes, dim=1), other.split(output, dim=1), strict=True)
    peer = [reference(input_ids=a, decoder_input_ids=b).logits for a, b in pairs]
    ours = logits(base, packed(one, sizes), packed(other, output))
    assert close(ours, torch.cat(peer, dim=1))


def test_gradients(pair: Pair) -> None:
    reference, base, folder = pair
    one, other = ids(3, ENCODED), ids(3, DECODED)
    target = other.roll(-1, 1)
    reference.zero_grad()
    peer = reference(input_ids=one, decoder_input_ids=other).logits
    F.cross_entropy(peer.flatten(0, 1), target.flatten()).backward()
    read = Score("text", "x", target=target, loss_weight=torch.ones(target.shape))
    base.model.zero_grad()
    base.model(view(segment(one), segment(other), read)).scores["x"].mean().backward()
    output = dict(reference.named_buffers())  # BART's bias of logits is none of its parameters
    compared = [
        each
        for each in gradients(reference, base, folder)
        if each[0] != "spaces.text.bias" or "final_logits_bias" not in output
    ]
    assert len(compared) > 40
    for name, ours, expected in compared:
        assert close(ours, expected, 1e-4), name


@pytest.mark.parametrize("name", PAIRED)
def test_cached_greedy_generation(name: str, tmp_path: Path) -> None:
    reference = saved(PAIRED[name], tmp_path)
    base, one = load(tmp_path), ids(2, ENCODED)
    reference.generation_config.eos_token_id = None
    how = {"max_new_tokens": 64, "do_sample": False, "attention_mask": torch.ones_like(one)}
    peer: Any = reference.generate(one, **how)
    start = view(segment(one), segment(peer[:, :1]))
    greedy, following = SamplingConfig(temperature=0).build(), positions((65,))[1:]
    ours = torch.cat([*continued(base.model, start, following, greedy)], dim=1)
    assert torch.equal(ours, peer[:, 1:])
    forced = Forced(ids(2, 64))  # for greedy ones like to repeat themselves
    list(continued(base.model, start, following, forced))
    with torch.no_grad():
        given = torch.cat([peer[:, :1], forced.values[:, :-1]], dim=1)
        complete = reference(input_ids=one, decoder_input_ids=given).logits
    assert close(torch.cat(forced.seen, dim=1), complete)


@pytest.mark.parametrize("name", PAIRED)
def test_a_round_trip_keeps_every_byte(name: str, tmp_path: Path) -> None:
    saved(PAIRED[name], tmp_path / "theirs")
    save(load(tmp_path / "theirs"), tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")


def heard(features: Tensor) -> Segment:
    """Frames as references take them, [B,M,T], in places of two."""
    values = features.transpose(1, 2).reshape(len(features), -1, 2 * features.shape[1])
    return Segment("audio", values, positions((values.shape[1],)).expand(len(values), -1, -1))


def test_whisper(tmp_path: Path) -> None:
    """Logits, gradients, 64 cached steps and every byte."""
    reference = saved(whisper, tmp_path / "theirs")
    base = load(tmp_path / "theirs")
    save(base, tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")
    features = torch.randn(2, 8, 24, generator=torch.manual_seed(2))
    forced, first = Forced(ids(2, 64)), torch.full((2, 1), 3)
    given = torch.cat([first, forced.values[:, :-1]], dim=1)
    peer = reference(input_features=features, decoder_input_ids=given).logits
    ours = logits(base, heard(features), segment(given))
    assert peer.std() > 0.3
    assert close(ours, peer)
    start = view(heard(features), segment(first))
    list(continued(base.model, start, positions((65,))[1:], forced))
    assert close(torch.cat(forced.seen, dim=1), peer)
    weight = torch.randn(peer.shape, generator=torch.manual_seed(3))
    (peer * weight).mean().backward()
    (ours * weight).mean().backward()
    fixed = "towers.encoder.positions.place.weight"  # sines there, and not trained
    pairs = [g for g in gradients(reference, base, tmp_path) if g[0] != fixed]
    assert len(pairs) > 60
    for name, result, expected in pairs:
        assert close(result, expected, 1e-4), name


def test_sound_is_heard_as_whisper_hears_it(tmp_path: Path) -> None:
    """From samples on, beside transformers' own feature extractor."""
    saved(lambda: whisper(max_source_positions=50), tmp_path)
    base = load(tmp_path)
    samples = np.sin(np.arange(3000) / 7).astype(np.float32)
    extractor = hf.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    peer = extractor(samples, sampling_rate=16000, return_tensors="np").input_features[0]
    ours = base.codecs["audio"].encode(samples).values.reshape(100, 8)
    assert np.abs(ours.T - peer).max() < 1e-4
    assert base.embed([samples], modality="audio", layers=False).shape == (1, 48)
