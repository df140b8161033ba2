"""The backbone is right, by independent implementations: random references of transformers.

Each reference is saved by transformers and read from disk by our loader.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from broadbase.core.view import Predict, Score, Segment, Stream, View, positions
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.inference.base import Base
from broadbase.weights.folder import load, save
from support.parity import PAD, POSITIONS, Pair, close, gradients, ids, segment
from support.references import BACKBONES, DECODERS, ENCODERS, Forced, saved, stored


@pytest.fixture(scope="module", params=[*DECODERS, *ENCODERS])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A reference, what our loader makes of its folder, and the folder."""
    folder = tmp_path_factory.mktemp("reference")
    reference = saved((DECODERS | ENCODERS)[request.param], folder)
    return reference, load(folder), folder


def logits(base: Base, given: Segment) -> Tensor:
    view = View(
        (Stream("main", "main", (given,), base.usage.attention, readouts=(Predict("text", "x"),)),)
    )
    return base.model(view).predictions["x"]


@torch.no_grad()
def test_logits(pair: Pair) -> None:
    reference, base, _ = pair
    outputs = reference(ids())
    peer = getattr(outputs, "prediction_logits", None)
    peer = outputs.logits if peer is None else peer
    assert peer.std() > 0.3
    assert close(logits(base, segment(ids())), peer)


def padded() -> tuple[Tensor, Tensor, Segment]:
    """Rows of three lengths: ids, which are real, and our segment of both."""
    real = torch.arange(POSITIONS) < torch.tensor([[24], [17], [11]])
    values = torch.where(real, ids(), PAD)
    order = torch.arange(POSITIONS).expand(3, -1)
    return values, real, segment(values, document=torch.where(real, 0, -1), order=order)


@torch.no_grad()
def test_logits_with_padding(pair: Pair) -> None:
    reference, base, _ = pair
    values, real, given = padded()
    outputs = reference(values, attention_mask=real.long())
    peer = getattr(outputs, "prediction_logits", None)
    peer = outputs.logits if peer is None else peer
    assert close(logits(base, given)[real], peer[real])


@torch.no_grad()
def test_packed_documents(pair: Pair) -> None:
    """Three documents in a row are read as if each were alone."""
    reference, base, _ = pair
    sizes = (5, 11, 8)
    order = torch.cat([torch.arange(n) for n in sizes])[None]
    document = torch.cat([torch.full((n,), d) for d, n in enumerate(sizes)])[None]
    values = ids(rows=1)
    given = Segment("text", values, order.unsqueeze(-1).expand(-1, -1, 3), order, document)
    result = []
    for one in values.split(sizes, dim=1):
        outputs = reference(one)
        apart = getattr(outputs, "prediction_logits", None)
        result.append(outputs.logits if apart is None else apart)
    assert close(logits(base, given), torch.cat(result, dim=1))


def test_gradients(pair: Pair) -> None:
    """Of the mean cross-entropy, for every tensor in the file."""
    reference, base, folder = pair
    target = ids().roll(-1, 1)
    outputs = reference(ids())
    peer = getattr(outputs, "prediction_logits", None)
    peer = outputs.logits if peer is None else peer
    reference.zero_grad()
    F.cross_entropy(peer.flatten(0, 1), target.flatten()).backward()
    read = Score("text", "x", target=target, loss_weight=torch.ones(target.shape))
    view = View(
        (Stream("main", "main", (segment(ids()),), base.usage.attention, readouts=(read,)),)
    )
    base.model.zero_grad()
    base.model(view).scores["x"].mean().backward()
    compared = 0
    for name, ours, expected in gradients(reference, base, folder):
        assert close(ours, expected, 1e-4), name
        compared += 1
    assert compared > 20


@pytest.mark.parametrize("name", DECODERS)
def test_cached_greedy_generation(name: str, tmp_path: Path) -> None:
    """64 steps: the same ids as transformers, and the same logits after ids that vary."""
    reference = saved(DECODERS[name], tmp_path)
    base = load(tmp_path)
    prompt = ids(rows=2, length=5)
    reference.generation_config.eos_token_id = None
    how = {"max_new_tokens": 64, "do_sample": False}
    peer = reference.generate(prompt, attention_mask=torch.ones_like(prompt), **how)[:, 5:]
    greedy, following = SamplingConfig(temperature=0).build(), positions((69,))[5:]
    ours = torch.cat(list(generate(base.model, segment(prompt), following, greedy)), dim=1)
    assert torch.equal(ours, peer)
    forced = Forced(ids(2, 64))  # for greedy ones like to repeat themselves
    list(generate(base.model, segment(prompt), following, forced))
    with torch.no_grad():
        complete = reference(torch.cat([prompt, forced.values[:, :-1]], dim=1)).logits[:, 4:]
    assert close(torch.cat(forced.seen, dim=1), complete)


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_a_round_trip_keeps_every_byte(name: str, tmp_path: Path) -> None:
    saved((DECODERS | ENCODERS)[name], tmp_path / "theirs")
    save(load(tmp_path / "theirs"), tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")
    configs = [json.loads((tmp_path / w / "config.json").read_text()) for w in ("ours", "theirs")]
    assert configs[0] == configs[1]
    save(load(tmp_path / "ours"), tmp_path / "again")
    assert stored(tmp_path / "again") == stored(tmp_path / "theirs")


def test_half_precision_keeps_every_byte(tmp_path: Path) -> None:
    """As gpt-oss is converted: fused experts of bf16."""
    saved(lambda: DECODERS["gpt_oss"]().bfloat16(), tmp_path / "theirs")
    base = load(tmp_path / "theirs")
    assert {p.dtype for p in base.model.parameters()} == {torch.bfloat16}
    save(base, tmp_path / "ours")
    assert stored(tmp_path / "ours") == stored(tmp_path / "theirs")


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_without_a_head(name: str, tmp_path: Path) -> None:
    reference = saved(BACKBONES[name], tmp_path)
    base = load(tmp_path)
    values, real, given = padded()
    with torch.no_grad():
        peer = reference(values, attention_mask=real.long()).last_hidden_state
        ours = base.model(View((Stream("main", "main", (given,), base.usage.attention),)))
    assert close(ours.streams["main"].x[real], peer[real])


def test_bert_with_parts(tmp_path: Path) -> None:
    reference = saved(ENCODERS["bert"], tmp_path)
    base = load(tmp_path)
    part = (torch.arange(POSITIONS) > 9).long().expand(3, -1)
    with torch.no_grad():
        peer = reference(ids(), token_type_ids=part).logits
        ours = logits(base, segment(ids(), token_type=part))
    assert close(ours, peer)


@torch.no_grad()
def test_token_dropout_of_esm(tmp_path: Path) -> None:
    """Hidden places are nothing, and the others weigh more; with padding too."""
    reference = saved(ENCODERS["esm"], tmp_path)
    base = load(tmp_path)
    values, real, given = padded()
    hidden = (torch.arange(POSITIONS) % 4 == 1) & real
    peer = reference(values.masked_fill(hidden, 2), attention_mask=real.long()).logits
    ours = logits(base, replace(given, masked=hidden))
    assert close(ours[real], peer[real])
