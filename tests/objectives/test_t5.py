"""T5, from its relative positions to its loss, equals transformers' on random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Predict, Segment, Stream, View, positions
from broadbase.inference.autoregressive import SamplingConfig, generate
from broadbase.modalities.noise import MaskOrSwap
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.layer import LayerInputs
from broadbase.nn.patterns import Mask
from broadbase.nn.relative import bucket
from support.independent import HEADS, HIDDEN, VOCABULARY, WIDTH, attention, copy, randomise, value
from support.models import TOWER
from support.segments import packed

CONTROLS = 12
ROOT = {"name": "rms", "eps": 1e-6}
ATTENTION = {"name": "grouped", "heads": HEADS, "kv_heads": HEADS, "head_dim": 12, "scale": 1.0}


def t5_tower(cross: bool) -> dict[str, Any]:
    block = {
        "attention": ATTENTION,
        "feedforward": {"name": "mlp", "hidden_width": HIDDEN, "activation": "relu", "bias": False},
        "residual": {"name": "pre", "norm": ROOT},
        "cross": ATTENTION if cross else None,
    }
    return {
        "name": "transformer",
        "width": WIDTH,
        "layers": [{"repeat": 2, "block": block}],
        "positions": {
            "name": "t5_bias",
            "buckets": 8,
            "max_distance": 20,
            "bidirectional": not cross,
        },
        "final_norm": ROOT,
    }


def t5() -> tuple[Model, T5ForConditionalGeneration]:
    """Ours and theirs (v1.0: ReLU, tied), with the same random weights."""
    config = T5Config(
        vocab_size=VOCABULARY + CONTROLS,
        d_model=WIDTH,
        d_kv=12,
        d_ff=HIDDEN,
        num_layers=2,
        num_heads=HEADS,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    reference = T5ForConditionalGeneration(config).double().eval()
    randomise(reference)
    discrete = {"vocab_size": VOCABULARY, "extra_ids": CONTROLS, "head": {"name": "scaled"}}
    tree = {
        "modalities": {"text": {"name": "tokens", "discrete": discrete}},
        "towers": {"encoder": t5_tower(cross=False), "decoder": t5_tower(cross=True)},
    }
    actual = ModelConfig.from_tree(tree).build().double()
    copy(actual.spaces["text"].embedding, reference.shared)
    names = ("q", "k", "v", "o")
    for side in ("encoder", "decoder"):
        a, b = actual.towers[side], reference.get_submodule(side)
        copy(a.positions.table, b.block[0].layer[0].SelfAttention.relative_attention_bias)
        copy(a.final_norm, b.final_layer_norm)
        for ours, layer in zip(a.blocks, b.block, strict=True):
            first, *middle, last = layer.layer
            attention(ours.attention.branch, first.SelfAttention, names)
            copy(ours.attention.norm, first.layer_norm)
            for each in middle:
                attention(ours.cross.branch, each.EncDecAttention, names)
                copy(ours.cross.norm, each.layer_norm)
            copy(ours.feedforward.branch.up, last.DenseReluDense.wi)
            copy(ours.feedforward.branch.down, last.DenseReluDense.wo)
            copy(ours.feedforward.norm, last.layer_norm)
    return actual, reference


def test_span_corruption_is_t5s_loss() -> None:
    """Value and gradient, of rows whose inputs differ in length; the decoder starts with 0."""
    actual, reference = t5()
    document = torch.where(torch.arange(40) < torch.tensor([[40], [31], [23]]), 0, -1)
    values = torch.from_numpy(np.random.default_rng(0).integers(1, VOCABULARY, (3, 40)))
    values[:, 0] = 0
    weight = (document >= 0).double()
    weight[:, 0] = 0
    place = positions((40,)).expand(3, -1, -1)
    segment = Segment("text", values, place, torch.arange(40).expand(3, -1), document, None, weight)
    corrupt = MaskOrSwap(VOCABULARY, extra_ids=CONTROLS)
    objective = ObjectiveConfig.from_tree({"name": "span_corruption"}).build()
    (view,) = objective.views(Batch(0, {"s": segment}, KeyedRandom(0, 0)), {"text": corrupt})
    (given,), (seen,) = (stream.segments for stream in view.streams)
    (read,) = view.readouts
    assert given.document is not None
    assert (given.document == -1).any()
    expected = reference(
        input_ids=given.values,
        attention_mask=(given.document >= 0).long(),
        decoder_input_ids=seen.values,
        labels=read.target.masked_fill(read.loss_weight == 0, -100),
    ).loss
    result = value(actual, "span_corruption", segment, corrupt)
    assert result.item() == pytest.approx(expected.item(), rel=1e-6)
    result.backward()
    expected.backward()
    pairs = [(actual.spaces["text"].embedding, reference.shared)]
    for side in ("encoder", "decoder"):
        bias = reference.get_submodule(side).block[0].layer[0].SelfAttention.relative_attention_bias
        pairs.append((actual.towers[side].positions.table, bias))
    for a, b in pairs:
        torch.testing.assert_close(a.weight.grad, b.weight.grad, rtol=1e-5, atol=1e-7)


@given(st.integers(4, 40), st.integers(0, 200), st.booleans())
def test_buckets_are_t5s(buckets: int, beyond: int, both: bool) -> None:
    furthest = buckets + 1 + beyond
    distance = torch.arange(-300, 300)
    reference = T5Attention._relative_position_bucket(distance, both, buckets // 2 * 2, furthest)
    assert torch.equal(bucket(distance, buckets // 2 * 2, furthest, both), reference)


def biased() -> Model:
    tower = {**TOWER, "positions": {"name": "t5_bias", "bidirectional": False}}
    tree = {"modalities": {"bytes": {"name": "bytes"}}, "towers": {"main": tower}}
    model = ModelConfig.from_tree(tree).build()
    initialise(model, 0)
    model.towers["main"].positions.table.weight.data.normal_()
    return model.double()


def predicted(model: Model, segment: Segment) -> Tensor:
    reads = (Predict("bytes", "p"),)
    with torch.no_grad():
        return model(
            View((Stream("main", "main", (segment,), "causal", readouts=reads),))
        ).predictions["p"]


def test_a_bias_keeps_documents_apart_and_the_future_out() -> None:
    model, row = biased(), packed([[5, 7]], 15)
    together = predicted(model, row)
    alone = Segment("bytes", row.values[:, 5:12], row.position[:, 5:12])
    assert torch.allclose(together[:, 5:12], predicted(model, alone), atol=1e-12)
    changed = Segment(**{**row.__dict__, "values": row.values.clone()})
    changed.values[:, 9] += 1
    other = predicted(model, changed)
    assert torch.equal(together[:, :9], other[:, :9])
    assert not torch.equal(together[:, 9], other[:, 9])


def test_generation_with_a_cache_knows_its_distances() -> None:
    model = biased()
    prompt = torch.tensor([[256, 65, 66]])
    start = Segment("bytes", prompt, positions((3,)).expand(1, -1, -1))
    choose = SamplingConfig(temperature=0).build()
    output = torch.cat(list(generate(model, start, positions((23,))[3:], choose)), dim=1)
    full = prompt
    for _ in range(20):
        segment = Segment("bytes", full, positions((full.shape[1],)).expand(1, -1, -1))
        full = torch.cat([full, predicted(model, segment)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(output, full[:, 3:])


def test_attention_begins_the_same_whatever_the_scale_of_its_logits() -> None:
    """T5 does not divide by the root of a head's width, its queries begin smaller for it."""
    x, result = torch.randn(2, 7, WIDTH, generator=torch.manual_seed(0)), []
    for scale in (None, 1.0, 0.3):
        config = GroupedQueryConfig(heads=HEADS, kv_heads=HEADS, head_dim=12, scale=scale)
        module = config.build(WIDTH)
        initialise(module, 0)
        result.append(module(x, LayerInputs(Mask(None)))[0])
    assert torch.allclose(result[0], result[1], atol=1e-6)
    assert torch.allclose(result[0], result[2], atol=1e-6)
