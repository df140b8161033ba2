"""ESM-2: masked residues with token dropout equal transformers', padding and all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import EsmConfig, EsmForMaskedLM

from broadbase.core.contracts import Batch, ObjectiveConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.view import Predict, Segment, Stream, View, positions
from broadbase.modalities.noise import MaskOrSwap
from broadbase.model.model import Model, ModelConfig
from support.independent import (
    HEADS,
    HIDDEN,
    LAYERNORM,
    WIDTH,
    attention,
    block,
    copy,
    randomise,
    tower,
    value,
)

VOCABULARY, MASK = 33, 32


def esm() -> tuple[Model, EsmForMaskedLM]:
    """Ours and theirs, with the same random weights."""
    config = EsmConfig(
        vocab_size=VOCABULARY,
        mask_token_id=MASK,
        pad_token_id=1,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        max_position_embeddings=64,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    reference = EsmForMaskedLM(config).double().eval()
    randomise(reference)
    discrete = {
        "vocab_size": VOCABULARY,
        "bias": True,
        "token_dropout": 0.15 * 0.8,
        "mask_id": MASK,
        "head": {"name": "mlm", "norm": LAYERNORM},
    }
    tree: dict[str, Any] = {
        "modalities": {"text": {"name": "tokens", "discrete": discrete}},
        "towers": {"main": tower({"name": "rotary"}, block("pre", 1e-5), final_norm=LAYERNORM)},
    }
    ours = ModelConfig.from_tree(tree).build().double()
    space, head = ours.spaces["text"], reference.lm_head
    copy(space.embedding, reference.esm.embeddings.word_embeddings)
    space.bias.data.copy_(head.bias)
    copy(space.head.linear, head.dense)
    copy(space.head.norm, head.layer_norm)
    copy(ours.towers["main"].final_norm, reference.esm.encoder.emb_layer_norm_after)
    for a, b in zip(ours.towers["main"].blocks, reference.esm.encoder.layer, strict=True):
        names = ("self.query", "self.key", "self.value", "output.dense")
        attention(a.attention.branch, b.attention, names)
        copy(a.attention.norm, b.attention.LayerNorm)
        copy(a.feedforward.norm, b.LayerNorm)
        copy(a.feedforward.branch.up, b.intermediate.dense)
        copy(a.feedforward.branch.down, b.output.dense)
    return ours, reference


def residues() -> Segment:
    """Three proteins of different lengths, padded."""
    values = torch.from_numpy(np.random.default_rng(0).integers(4, 24, (3, 40)))
    document = torch.where(torch.arange(40) < torch.tensor([[40], [31], [17]]), 0, -1)
    weight = (document >= 0).double()
    weight[:, 0] = 0
    place = positions((40,)).expand(3, -1, -1)
    order = torch.arange(40).expand(3, -1)
    return Segment(
        "text", values.masked_fill(document < 0, 1), place, order, document, None, weight
    )


def test_masked_modelling_is_esms_loss() -> None:
    """Value and gradient: hidden residues are nothing, what is left is larger, row by row."""
    ours, reference = esm()
    segment, corrupt = residues(), MaskOrSwap(24)
    fields = {"name": "masked", "mask_ratio": 0.15}
    objective = ObjectiveConfig.from_tree(fields).build()
    (view,) = objective.views(Batch(0, {"s": segment}, KeyedRandom(0, 0)), {"text": corrupt})
    (seen,), (read,) = view.streams[0].segments, view.readouts
    assert seen.masked is not None
    assert seen.document is not None
    assert read.index is not None
    assert len(set((seen.masked.sum(1) / (seen.document >= 0).sum(1)).tolist())) == 3
    scored = read.target.masked_fill(read.loss_weight == 0, -100)
    labels = torch.full_like(seen.values, -100)
    for b in range(3):
        for place, label in zip(read.index[b], scored[b], strict=True):
            labels[b, place] = max(label, labels[b, place])
    expected = reference(
        input_ids=seen.values.masked_fill(seen.masked, MASK),
        attention_mask=(seen.document >= 0).long(),
        labels=labels,
    ).loss
    result = value(ours, "masked", segment, corrupt, mask_ratio=0.15)
    assert result.item() == pytest.approx(expected.item(), rel=1e-6)
    result.backward()
    expected.backward()
    torch.testing.assert_close(
        ours.spaces["text"].embedding.weight.grad,
        reference.esm.embeddings.word_embeddings.weight.grad,
        rtol=1e-5,
        atol=1e-8,
    )


def test_token_dropout_acts_where_nothing_is_hidden_too() -> None:
    ours, reference = esm()
    segment = residues()
    assert segment.document is not None
    real = segment.document >= 0
    view = View((Stream("main", "main", (segment,), readouts=(Predict("text", "p"),)),))
    expected = reference(input_ids=segment.values, attention_mask=real.long()).logits
    torch.testing.assert_close(
        ours(view).predictions["p"][real], expected[real], rtol=1e-5, atol=1e-7
    )
