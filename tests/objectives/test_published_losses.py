"""Losses and gradients equal those of independent implementations, on random weights and inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MixtralConfig,
    MixtralForCausalLM,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)
from transformers.models.clip.modeling_clip import image_text_contrastive_loss
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from broadbase.core.contracts import Batch, ObjectiveConfig, TowerConfig
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import combine
from broadbase.core.view import MaskedSegment, Output, Segment, Stream, Tokens, View, positions
from broadbase.modalities.noise import Hide, MaskOrSwap
from broadbase.model.initialise import initialise
from broadbase.model.model import Model, ModelConfig
from broadbase.nn.experts import ExpertsConfig
from broadbase.nn.layer import LayerInputs
from broadbase.nn.patterns import Mask
from broadbase.train.loop import aux_losses
from support.independent import (
    ATTENTION,
    HEADS,
    HIDDEN,
    LAYERNORM,
    VOCABULARY,
    WIDTH,
    attention,
    block,
    copy,
    randomise,
    tower,
    value,
)


def bart() -> tuple[Model, BartForConditionalGeneration]:
    """Ours and theirs, with the same random weights."""
    config = BartConfig(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=HIDDEN,
        decoder_ffn_dim=HIDDEN,
        max_position_embeddings=64,
        dropout=0.0,
        attn_implementation="eager",
    )
    reference = BartForConditionalGeneration(config).double().eval()
    randomise(reference)
    learned = {"name": "learned", "num_positions": 64}
    norms = {"input_norm": LAYERNORM, "final_norm": None}
    discrete = {"vocab_size": VOCABULARY, "mask_id": 4}
    ours = (
        ModelConfig.from_tree(
            {
                "modalities": {"text": {"name": "tokens", "discrete": discrete}},
                "towers": {
                    "encoder": tower(learned, block("post", 1e-5), **norms),
                    "decoder": tower(learned, block("post", 1e-5, cross=True), **norms),
                },
            }
        )
        .build()
        .double()
    )
    copy(ours.spaces["text"].embedding, reference.model.shared)
    for side in ("encoder", "decoder"):
        a, b = ours.towers[side], reference.model.get_submodule(side)
        a.positions.place.weight.data.copy_(b.embed_positions.weight[2:])
        copy(a.input_norm, b.layernorm_embedding)
        for ours_, layer in zip(a.blocks, b.layers, strict=True):
            names = ("q_proj", "k_proj", "v_proj", "out_proj")
            attention(ours_.attention.branch, layer.self_attn, names)
            copy(ours_.attention.norm, layer.self_attn_layer_norm)
            if side == "decoder":
                attention(ours_.cross.branch, layer.encoder_attn, names)
                copy(ours_.cross.norm, layer.encoder_attn_layer_norm)
            copy(ours_.feedforward.branch.up, layer.fc1)
            copy(ours_.feedforward.branch.down, layer.fc2)
            copy(ours_.feedforward.norm, layer.final_layer_norm)
    return ours, reference


def test_infilling_is_barts_loss() -> None:
    ours, reference = bart()
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.integers(5, VOCABULARY, (3, 24)))
    weight = torch.ones(3, 24, dtype=torch.float64)
    weight[:, 0] = 0
    segment = Segment("text", values, positions((24,)).expand(3, -1, -1), loss_weight=weight)
    corrupt = MaskOrSwap(VOCABULARY)
    objective = ObjectiveConfig.from_tree({"name": "infilling"}).build()
    batch = Batch(0, {"s": segment}, KeyedRandom(0, 0))
    (view,) = objective.views(batch, {"text": corrupt})
    given = view.streams[0].segments[0]
    assert given.masked is not None
    assert given.document is not None
    assert (given.document == -1).any()
    expected = reference(
        input_ids=given.values.masked_fill(given.masked, 4),
        attention_mask=(given.document >= 0).long(),
        decoder_input_ids=values[:, :-1],
        labels=values[:, 1:].contiguous(),
    ).loss
    matches = value(ours, "infilling", segment, corrupt)
    assert matches.item() == pytest.approx(expected.item(), rel=1e-9)
    matches.backward()
    expected.backward()
    torch.testing.assert_close(
        ours.spaces["text"].embedding.weight.grad, reference.model.shared.weight.grad
    )


def vitmae() -> tuple[Model, ViTMAEForPreTraining, nn.ModuleList]:
    """Ours, theirs and the layers of their encoder, with the same random weights."""
    config = ViTMAEConfig(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        image_size=16,
        patch_size=4,
        num_channels=1,
        decoder_hidden_size=WIDTH,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=HEADS,
        decoder_intermediate_size=HIDDEN,
        norm_pix_loss=True,
        attn_implementation="eager",
    )
    reference = ViTMAEForPreTraining(config).double().eval()
    norms = {"input_norm": None, "final_norm": {**LAYERNORM, "eps": config.layer_norm_eps}}
    plain = tower({"name": "sinusoid"}, block("pre", config.layer_norm_eps), **norms)
    image = {"name": "image", "height": 16, "width": 16, "channels": 1, "patch": 4}
    ours = (
        ModelConfig.from_tree(
            {
                "modalities": {"image": image},
                "heads": {"pixels": {"name": "regression", "channels": 16}},
                "towers": {"encoder": plain, "decoder": plain},
                "tower_of": {"pixels": "decoder"},
                "connectors": [{"name": "linear", "source": "encoder", "target": "decoder"}],
            }
        )
        .build()
        .double()
    )
    embeddings, decoder = reference.vit.embeddings, reference.decoder
    sines = build_2d_sinusoidal_position_embedding(4, 4, WIDTH, cls_token=True)
    sines = torch.cat(sines.chunk(2, dim=-1)[::-1], dim=-1)  # columns first, as their weights
    embeddings.position_embeddings.data.copy_(sines)
    decoder.decoder_pos_embed.data.copy_(sines)
    randomise(reference)
    vit = next(m for m in reference.vit.modules() if isinstance(m, nn.ModuleList))
    patch = embeddings.patch_embeddings.projection
    ours.spaces["image"].input.weight.data.copy_(patch.weight.flatten(1))
    ours.spaces["image"].input.bias.data.copy_(patch.bias)
    copy(ours.connectors["encoder>decoder"], decoder.decoder_embed)
    copy(ours.spaces["pixels"].output, decoder.decoder_pred)
    ours.spaces["pixels"].mask.data.copy_(decoder.mask_token.flatten())
    layers = {"encoder": vit, "decoder": decoder.decoder_layers}
    copy(ours.towers["encoder"].final_norm, reference.vit.layernorm)
    copy(ours.towers["decoder"].final_norm, decoder.decoder_norm)
    for side, stack in layers.items():
        for a, b in zip(ours.towers[side].blocks, stack, strict=True):
            vit_layer(a, b)
    return ours, reference, vit


def test_masked_autoencoding_is_vitmaes_loss() -> None:
    """Without their class token, which has no counterpart here: their layers, run by hand."""
    ours, reference, vit = vitmae()
    embeddings, decoder = reference.vit.embeddings, reference.decoder
    pixels = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    values = reference.patchify(pixels)  # [3,16,16], one channel: the order of rows and columns
    place = positions((4, 4)).expand(3, -1, -1)
    segment = Segment("image", values, place, loss_weight=torch.ones(3, 16, dtype=torch.float64))
    objective = ObjectiveConfig.from_tree({"name": "mae"}).build()
    (view,) = objective.views(Batch(0, {"s": segment}, KeyedRandom(0, 0)), {"image": Hide()})
    at = view.streams[0].segments[0].position
    seen = 4 * at[..., 1] + at[..., 2]
    mask = torch.ones(3, 16, dtype=torch.float64).scatter(1, seen, 0.0)
    x = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]
    x = x.gather(1, seen.unsqueeze(-1).expand(-1, -1, WIDTH))
    x = decoder.decoder_embed(reference.vit.layernorm(run(vit, x)))
    full = decoder.mask_token.expand(3, 16, -1).clone()
    full = full.scatter(1, seen.unsqueeze(-1).expand(-1, -1, WIDTH), x)
    full = run(decoder.decoder_layers, full + decoder.decoder_pos_embed[:, 1:])
    predicted = decoder.decoder_pred(decoder.decoder_norm(full))
    mean, deviation = values.mean(-1, keepdim=True), (values.var(-1, keepdim=True) + 1e-6).sqrt()
    error = ((predicted - (values - mean) / deviation) ** 2).mean(-1)  # He et al. 2022, 3
    expected = (error * mask).sum() / mask.sum()
    assert float(value(ours, "mae", segment, Hide()).detach()) == pytest.approx(
        float(expected.detach()), rel=1e-6
    )


def run(layers: Any, x: Tensor) -> Tensor:
    for layer in layers:
        out = layer(x)
        x = out[0] if isinstance(out, tuple) else out
    return x


def vit_layer(ours: Any, reference: Any) -> None:
    attention(ours.attention.branch, reference.attention, ("q_proj", "k_proj", "v_proj", "o_proj"))
    copy(ours.attention.norm, reference.layernorm_before)
    copy(ours.feedforward.norm, reference.layernorm_after)
    copy(ours.feedforward.branch.up, reference.mlp.fc1)
    copy(ours.feedforward.branch.down, reference.mlp.fc2)


def pairs(count: int = 6) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return tuple(  # type: ignore[return-value]
        nn.functional.normalize(torch.randn(count, 8, generator=rng, dtype=torch.float64), dim=-1)
        for _ in range(2)
    )


def contrastive(name: str, first: Tensor, second: Tensor) -> float:
    objective = ObjectiveConfig.from_tree({"name": name}).build()
    predictions = {"image": first.unsqueeze(1), "text": second.unsqueeze(1)}
    place = torch.zeros(len(first), 1, 3)
    view = View((Stream("image", "image", (MaskedSegment("image", place),)),))
    loss = objective.loss([Output({}, {}, predictions)], [view])
    return float(combine(loss, objective.term_weights([view])))


def test_infonce_is_clips_loss() -> None:
    image, text = pairs()
    matches = contrastive("infonce", image, 14.3 * text)
    assert matches == pytest.approx(
        float(image_text_contrastive_loss(14.3 * text @ image.T)), rel=1e-12
    )


def test_sigmoid_is_siglips_formula() -> None:
    """Zhai et al. 2023, equation 1, pair by pair."""
    image, text = pairs()
    scale, bias, total = 10.0, -1.6, 0.0
    for i in range(6):
        for j in range(6):
            z = 1.0 if i == j else -1.0
            total -= np.log(1 / (1 + np.exp(-z * (scale * float(image[i] @ text[j]) + bias))))
    ones = torch.ones(6, 1, dtype=torch.float64)
    matches = contrastive(
        "sigmoid", torch.cat([image, ones], 1), torch.cat([scale * text, bias * ones], 1)
    )
    assert matches == pytest.approx(total / 6, rel=1e-9)


def test_a_joint_space_makes_the_logit_of_a_dot_product() -> None:
    tree = {
        "modalities": {},
        "heads": {
            "a": {"name": "joint", "embedding_dim": 8},
            "b": {"name": "joint", "embedding_dim": 8, "scale": 10.0, "bias": -2.7},
        },
        "towers": {"main": tower({"name": "rotary"}, block("pre", 1e-5))},
    }
    model = ModelConfig.from_tree(tree).build().double()
    initialise(model, 0)
    x, y = torch.randn(2, 5, 1, WIDTH, dtype=torch.float64)
    a, b = (model.spaces[n].predict(v)[:, 0] for n, v in (("a", x), ("b", y)))
    unit = [
        nn.functional.normalize(model.spaces[n].project(v)[:, 0], dim=-1)
        for n, v in (("a", x), ("b", y))
    ]
    torch.testing.assert_close(a @ b.T, 10 * unit[0] @ unit[1].T - 2.7)
    model.spaces["b"].log_scale.data.fill_(9.0)  # clamped: CLIP's largest scale is 100
    assert float(model.spaces["b"].predict(y)[0, 0, :-1].detach().norm()) == pytest.approx(100)


def test_experts_are_mixtrals() -> None:
    config = MixtralConfig(
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        num_local_experts=5,
        num_experts_per_tok=2,
        vocab_size=VOCABULARY,
        output_router_logits=True,
        router_jitter_noise=0.0,
        attn_implementation="eager",
    )
    reference = MixtralForCausalLM(config).eval()  # its experts have no float64
    randomise(reference)
    layer = reference.model.layers[0]
    moe = layer.mlp if hasattr(layer, "mlp") else layer.block_sparse_moe
    ours = ExpertsConfig(hidden_width=HIDDEN, num_experts=5).build(WIDTH)
    names = dict(moe.named_parameters())
    ours.router.weight.data.copy_(names["gate.weight"])
    for i, expert in enumerate(ours.experts):
        if "experts.gate_up_proj" in names:  # as in memory: fused, [E, 2F, D]
            gate, up = names["experts.gate_up_proj"][i].chunk(2)
            down = names["experts.down_proj"][i]
        else:
            gate, down, up = (names[f"experts.{i}.{w}.weight"] for w in ("w1", "w2", "w3"))
        for part, weight in ((expert.gate, gate), (expert.up, up), (expert.down, down)):
            part.weight.data.copy_(weight)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(_: nn.Module, given: Any, out: Any) -> None:
        inputs.append(given[0])
        outputs.append(out if isinstance(out, Tensor) else out[0])

    moe.register_forward_hook(keep)
    ids = torch.arange(20).unsqueeze(0) % VOCABULARY
    result = reference(input_ids=ids, labels=ids)
    update, losses = ours(inputs[0], LayerInputs(Mask(None)))
    torch.testing.assert_close(update, outputs[0].view_as(inputs[0]), rtol=1e-5, atol=1e-5)
    assert losses["balance"].item() == pytest.approx(result.aux_loss.item(), rel=1e-5)
    logits = inputs[0] @ ours.router.weight.T
    z = float(logits.logsumexp(-1).square().mean())
    assert float(losses["router_z"]) == pytest.approx(z, rel=1e-5)


def test_aux_losses_of_experts_are_terms_of_the_loss() -> None:
    output = Output({}, {}, {}, {"main/balance": torch.tensor([1.0, 2.0])})
    assert float(aux_losses([output, output])["main/balance"]) == 6.0
    tree = {
        "modalities": {"bytes": {"name": "bytes"}},
        "towers": {
            "main": {
                "name": "transformer",
                "width": WIDTH,
                "layers": [
                    {
                        "repeat": 2,
                        "block": {
                            "attention": ATTENTION,
                            "feedforward": {
                                "name": "experts",
                                "hidden_width": HIDDEN,
                                "load_balance_coef": 0.5,
                            },
                        },
                    }
                ],
            }
        },
    }
    model = ModelConfig.from_tree(tree).build()
    values = torch.randint(0, 256, (3, 7))
    segment = Segment("bytes", values, positions((7,)).expand(3, -1, -1))
    view = View((Stream("main", "main", (segment,)),))
    term = model.aux_loss_weights([view])["main/balance"]
    assert (term.weight, term.scale) == (3.0, 0.5)
    assert model(view).aux_losses["main/balance"].shape == (3,)
    assert (model(view).aux_losses["main/balance"] >= 2 * 2 * 0.8).all()  # 2 layers, 2 chosen


def test_layers_of_a_tower_may_be_charged_unlike() -> None:
    """The loss has each layer's charge by the coefficient of that layer, whatever the order."""
    for coefficients in ((0.5, 0.1), (0.1, 0.5), (0.0, 0.0)):
        kinds = [
            {
                "repeat": 1,
                "block": {
                    "attention": ATTENTION,
                    "feedforward": {
                        "name": "experts",
                        "hidden_width": HIDDEN,
                        "load_balance_coef": coefficient,
                    },
                },
            }
            for coefficient in coefficients
        ]
        tree = {"name": "transformer", "width": WIDTH, "layers": kinds}
        tower = TowerConfig.model_validate(tree).build()
        tokens = Tokens(positions((7,)).expand(3, -1, -1))
        losses: list[Tensor] = []
        for layer in tower.blocks:
            layer.register_forward_hook(lambda *all, to=losses: to.append(all[-1][1]["balance"]))
        total = tower(torch.randn(3, 7, WIDTH), tokens, "causal").aux_losses["balance"]
        expected = sum(c * loss for c, loss in zip(coefficients, losses, strict=True))
        torch.testing.assert_close(tower.aux_loss_weights["balance"] * total, expected)
