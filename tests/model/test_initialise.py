"""The law of every layer, measured: the deviation of each parameter in a sampling interval.

n draws of deviation s have a sum of squares of s ** 2 times a chi-square of n degrees of freedom;
the intervals below hold all but `CHANCE` of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from broadbase.core.config import Config, Slot, discover
from broadbase.model.initialise import initialise
from broadbase.nn.adapters.dora import DoRAConfig
from broadbase.nn.adapters.ia3 import IA3Config
from broadbase.nn.adapters.lora import LoRAConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import (
    BlockConfig,
    LayerScaleConfig,
    PostNormConfig,
    PreNormConfig,
    ResidualConfig,
    SandwichConfig,
)
from broadbase.nn.conditioning import AdaptiveNormConfig, FourierNoiseConfig
from broadbase.nn.connector import LinearConfig, MLPConnectorConfig
from broadbase.nn.experts import ClippedExpertsConfig, ExpertsConfig
from broadbase.nn.feedforward import ClippedConfig, FeedForwardConfig, GatedConfig, MLPConfig
from broadbase.nn.laws import Initialised, Law, ResidualLinear
from broadbase.nn.norm import (
    LayerNormConfig,
    NoNormConfig,
    OffsetRMSNormConfig,
    RMSNormConfig,
    StandardiseConfig,
)
from broadbase.nn.pooling import AttentionPoolingConfig, FirstConfig, LastConfig, MeanConfig
from broadbase.nn.positions import Learned2DConfig, LearnedConfig, NoPositionsConfig, SinusoidConfig
from broadbase.nn.relative import RelativeBias2DConfig, T5RelativeBiasConfig
from broadbase.nn.rotary import RotaryConfig
from broadbase.nn.softmax import CappedConfig, PlainSoftmaxConfig, SinksConfig
from broadbase.nn.spaces.codebooks import CodebooksConfig
from broadbase.nn.spaces.cosine import CosineConfig
from broadbase.nn.spaces.discrete import (
    DiscreteConfig,
    IdentityHeadConfig,
    MLMHeadConfig,
    NoHeadConfig,
    ScaledConfig,
)
from broadbase.nn.spaces.frames import FramesConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.nn.spaces.labels import LabelsConfig, SeveralConfig, ValuesConfig
from broadbase.nn.spaces.logistic import DiscretizedLogisticConfig
from broadbase.nn.spaces.patches import PatchesConfig
from broadbase.nn.spaces.prototypes import PrototypesConfig
from broadbase.nn.spaces.quantized import QuantizedVectorConfig
from broadbase.nn.spaces.regression import RegressionConfig
from broadbase.nn.spaces.soft_prompt import SoftPromptSpaceConfig
from broadbase.nn.tower import LayersConfig, Transformer, TransformerConfig
from broadbase.nn.vector_quantizer import VectorQuantizerConfig

CHANCE = 1e-9  # of a right law that is refused, for each parameter
D, F, H, E = 512, 768, 8, 32  # width, hidden width, heads, head_dim
SMALL = 0.02


@dataclass(frozen=True)
class Is:
    """A constant."""

    value: float


Expected = Mapping[str, "float | Is"]  # a parameter's name -> its deviation, or its value


def check(module: nn.Module, expected: Expected) -> None:
    """Draw a module's parameters and hold each of them against its law."""
    for parameter in module.parameters():
        parameter.detach().fill_(math.nan)
    initialise(module, 0)
    assert {name for name, _ in module.named_parameters()} == set(expected)
    for name, parameter in module.named_parameters():
        holds(name, parameter.detach(), expected[name])


def holds(name: str, parameter: Tensor, law: float | Is) -> None:
    """A constant is exact; draws have mean 0, and a deviation within the sampling interval."""
    if isinstance(law, Is):
        assert parameter.eq(law.value).all(), name
        return
    count = parameter.numel()
    low, high = stats.chi2.ppf([CHANCE / 2, 1 - CHANCE / 2], count)
    assert low <= float(parameter.double().square().sum()) / law**2 <= high, name
    furthest = stats.norm.isf(CHANCE / 2) / math.sqrt(count)
    assert abs(float(parameter.double().mean())) / law <= furthest, name


def inside(prefix: str, expected: Expected) -> Expected:
    return {f"{prefix}.{name}": law for name, law in expected.items()}


def linear(name: str, inputs: float, *, bias: bool = True) -> Expected:
    return {f"{name}.weight": inputs**-0.5} | ({f"{name}.bias": Is(0)} if bias else {})


def norm(name: str, *, bias: bool = False) -> Expected:
    return {f"{name}.weight": Is(1)} | ({f"{name}.bias": Is(0)} if bias else {})


def output(name: str = "output", *, bias: bool = True) -> Expected:
    return {f"{name}.weight": SMALL} | ({f"{name}.bias": Is(0)} if bias else {})


def attention(**settings: Any) -> GroupedQueryConfig:
    return GroupedQueryConfig(heads=H, kv_heads=H // 2, head_dim=E, **settings)


def heads(branches: int = 1, *, bias: bool = False, scale: float = E**-0.5) -> Expected:
    """The law of attention whose output is one of so many branches."""
    maps = linear("q", D * scale**2 * E, bias=bias) | linear("k", D, bias=bias)
    return {**maps, **linear("v", D, bias=bias), **linear("out", branches * H * E, bias=bias)}


def gated(branches: int = 1, *, bias: bool = False) -> Expected:
    maps = linear("gate", D, bias=bias) | linear("up", D, bias=bias)
    return {**maps, **linear("down", branches * F, bias=bias)}


def plain(branches: int = 1) -> Expected:
    return {**linear("up", D), **linear("down", branches * F)}


def experts(count: int, branches: int = 1, *, bias: bool = False) -> Expected:
    each = [inside(f"experts.{i}", gated(branches, bias=bias)) for i in range(count)]
    return {k: v for part in (linear("router", D, bias=bias), *each) for k, v in part.items()}


def around(branch: nn.Module) -> Callable[[ResidualConfig], nn.Module]:
    return lambda config: config.build(branch, D)


def at(*sizes: Any) -> Callable[[Any], nn.Module]:
    """Build a config for a tower of these sizes, or for a map."""
    return lambda config: config.build(*sizes)


WIDE, BETWEEN, PLACED = at(D), at(D, D), at(D, H, E)
ON_MAP = at("v", nn.Linear(D, F))
BRANCH = {"branch.weight": D**-0.5}
SIDES = {"source": "a", "target": "b"}
JOINT = linear("project", D, bias=False)

# Every layer there is: its config, how it is built, and the law of each parameter.
LAYERS: dict[str, tuple[Config, Callable[[Any], nn.Module], Expected]] = {
    "rms": (RMSNormConfig(), WIDE, {"weight": Is(1)}),
    "rms of 1 + weight": (OffsetRMSNormConfig(), WIDE, {"weight": Is(0)}),
    "layer norm": (LayerNormConfig(), WIDE, {"weight": Is(1), "bias": Is(0)}),
    "no norm": (NoNormConfig(), WIDE, {}),
    "standardise": (StandardiseConfig(), WIDE, {}),
    "no positions": (NoPositionsConfig(), PLACED, {}),
    "rotary": (RotaryConfig(), PLACED, {}),
    "sinusoid": (SinusoidConfig(), PLACED, {}),
    "learned": (
        LearnedConfig(num_positions=64, token_types=3),
        PLACED,
        {"place.weight": SMALL, "part.weight": SMALL},
    ),
    "plane": (Learned2DConfig(rows=8, columns=8), PLACED, {"place.weight": SMALL}),
    "buckets": (T5RelativeBiasConfig(), PLACED, {"table.weight": SMALL}),
    "offsets": (RelativeBias2DConfig(rows=8, columns=8), PLACED, {"table.weight": SMALL}),
    "softmax": (PlainSoftmaxConfig(), at(H), {}),
    "capped": (CappedConfig(softcap=50), at(H), {}),
    "sinks": (SinksConfig(), at(D), {"sink": SMALL}),
    "attention": (attention(), WIDE, heads()),
    "attention, normed": (
        attention(bias=True, out_bias=True, qk_norm=RMSNormConfig()),
        WIDE,
        {**heads(bias=True), **norm("q_norm"), **norm("k_norm")},
    ),
    "attention, scale 1": (attention(scale=1.0), WIDE, heads(scale=1.0)),
    "cross-attention": (attention(), lambda config: config.cross(D), heads()),
    "plain": (MLPConfig(hidden_width=F), WIDE, plain()),
    "gated": (GatedConfig(hidden_width=F), WIDE, gated()),
    "clipped": (ClippedConfig(hidden_width=F), WIDE, gated(bias=True)),
    "experts": (ExpertsConfig(hidden_width=F, num_experts=3), WIDE, experts(3)),
    "clipped experts": (
        ClippedExpertsConfig(hidden_width=F, num_experts=2),
        WIDE,
        experts(2, bias=True),
    ),
    "pre": (PreNormConfig(), around(nn.Linear(D, D, bias=False)), {**BRANCH, **norm("norm")}),
    "post": (PostNormConfig(), around(nn.Linear(D, D, bias=False)), {**BRANCH, **norm("norm")}),
    "sandwich": (
        SandwichConfig(),
        around(nn.Linear(D, D, bias=False)),
        {**BRANCH, **norm("norm"), **norm("after")},
    ),
    "layer scale": (
        LayerScaleConfig(),
        around(nn.Linear(D, D, bias=False)),
        {**BRANCH, **norm("norm"), "gain": Is(1)},
    ),
    "adaptive": (
        AdaptiveNormConfig(),
        around(nn.Linear(D, D, bias=False)),
        {**BRANCH, "modulation.weight": Is(0), "modulation.bias": Is(0)},
    ),
    "noise level": (
        FourierNoiseConfig(frequencies=64),
        WIDE,
        {**linear("first", 128), **linear("second", D)},
    ),
    "linear": (LinearConfig(**SIDES), at(D, F), {"weight": D**-0.5, "bias": Is(0)}),
    "perceptron": (
        MLPConnectorConfig(**SIDES, layers=(1, 2)),
        at(D, F),
        {**linear("first", 2 * D), **linear("second", F)},
    ),
    "quantised": (
        VectorQuantizerConfig(**SIDES, codebooks=3, code_dim=32),
        at(D, F),
        {**linear("narrow", D), **linear("widen", 32)},
    ),
    "cosine": (CosineConfig(), WIDE, {}),
    "mean": (MeanConfig(), WIDE, {}),
    "first": (FirstConfig(), WIDE, {}),
    "last": (LastConfig(), WIDE, {}),
    "probe": (
        AttentionPoolingConfig(heads=D // E, hidden_width=F),
        WIDE,
        {
            "probe": SMALL,
            **{f"attention.{name}": law for part in "qkv" for name, law in linear(part, D).items()},
            **linear("attention.out", D),
            **inside("feedforward.branch", plain()),
            **norm("feedforward.norm", bias=True),
        },
    ),
    "direct": (IdentityHeadConfig(), WIDE, {}),
    "no head": (NoHeadConfig(), WIDE, {}),
    "scaled": (ScaledConfig(), WIDE, {}),
    "transform": (
        MLMHeadConfig(),
        WIDE,
        {**linear("linear", D), **norm("norm", bias=True)},
    ),
    "ids": (
        DiscreteConfig(vocab_size=300, tie_embeddings=False, bias=True),
        WIDE,
        {"embedding.weight": SMALL, "mask": SMALL, "bias": Is(0), **output(bias=False)},
    ),
    "ids, tied": (
        DiscreteConfig(vocab_size=300, mask_id=3),
        WIDE,
        {"embedding.weight": SMALL},
    ),
    "vectors": (
        QuantizedVectorConfig(channels=48),
        WIDE,
        {**linear("input", 48), "mask": SMALL, **output()},
    ),
    "logistic": (
        DiscretizedLogisticConfig(channels=48),
        WIDE,
        {**linear("input", 48), "mask": SMALL, **output()},
    ),
    "regression": (RegressionConfig(channels=48), WIDE, {"mask": SMALL, **output()}),
    "codebooks": (
        CodebooksConfig(codes=64, codebooks=3),
        WIDE,
        {"embedding.weight": SMALL, "mask": SMALL, **output()},
    ),
    "frames": (FramesConfig(channels=80), WIDE, {**linear("near", 240), **linear("halve", 3 * D)}),
    "patches": (
        PatchesConfig(channels=48),
        WIDE,
        {**linear("input", 48), "start": SMALL, "mask": SMALL},
    ),
    "joint": (JointConfig(), WIDE, JOINT),
    "joint, scaled": (
        JointConfig(scale=10, bias=-3, shift=True),
        WIDE,
        {**linear("project", D), "log_scale": Is(float(torch.tensor(10.0).log())), "bias": Is(-3)},
    ),
    "labels": (
        LabelsConfig(classes=tuple("abcdefgh")),
        WIDE,
        {"embedding.weight": SMALL, "mask": SMALL},
    ),
    "values": (ValuesConfig(), WIDE, output()),
    "soft_prompt": (SoftPromptSpaceConfig(length=64), WIDE, {"vectors": SMALL}),
    "lora": (LoRAConfig(), ON_MAP, {"down": D**-0.5, "up": Is(0)}),
    "dora": (DoRAConfig(), ON_MAP, {"down": D**-0.5, "up": Is(0), "magnitude": D**-0.5}),
    "ia3": (IA3Config(), ON_MAP, {"factor": Is(1)}),
    "several": (SeveralConfig(labels=tuple("abcdefgh")), WIDE, output()),
    "prototypes": (
        PrototypesConfig(hidden_width=256, bottleneck=64),
        WIDE,
        {
            **linear("head.0", D),
            **linear("head.2", 256),
            **linear("head.4", 256),
            **linear("last", 64, bias=False),
        },
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_keeps_its_law(name: str) -> None:
    config, build, expected = LAYERS[name]
    check(build(config), expected)


def test_no_layer_lacks_a_law() -> None:
    """Every config of nn that builds a layer stands above; blocks and towers follow below."""
    discover("nn")
    built = {type(config) for config, _, _ in LAYERS.values()}
    assert {*configs(Config)} - built == {BlockConfig, TransformerConfig}


def configs(of: type[Config]) -> Iterator[type[Config]]:
    """The classes under a config, of nn, that build something by themselves."""
    for kind in of.__subclasses__():
        build = getattr(kind, "build", None)
        slot = issubclass(kind, Slot) and (kind.is_slot() or not kind.model_fields["name"].default)
        if kind.__module__.startswith("broadbase.nn.") and build is not None and not slot:
            yield kind
        yield from configs(kind)


@pytest.mark.parametrize("mean", [0.0, 1.5])
@pytest.mark.parametrize("wrong", [0.9, 1.1])
def test_the_interval_refuses_what_is_a_tenth_off(mean: float, wrong: float) -> None:
    """And a mean apart from 0; the right deviation lies in it."""
    draws = torch.randn(D, F, generator=torch.manual_seed(0))
    holds("right", draws, 1.0)
    with pytest.raises(AssertionError):
        holds("wrong", wrong * draws + mean, 1.0)


def tower(*layers: tuple[int, FeedForwardConfig, bool], **settings: Any) -> TransformerConfig:
    """A tower of `repeat` blocks of each kind, with cross-attention or without."""
    kinds = [
        LayersConfig(
            repeat=repeat,
            block=BlockConfig(
                attention=attention(), feedforward=inner, cross=attention() if cross else None
            ),
        )
        for repeat, inner, cross in layers
    ]
    return TransformerConfig(width=D, layers=tuple(kinds), **settings)


def block(number: int, inner: Expected, branches: int, *, cross: bool = False) -> Expected:
    """The law of a block of a tower with so many branches."""
    parts = {"attention": heads(branches), "feedforward": inner}
    parts |= {"cross": heads(branches)} if cross else {}
    laws = {k: v for part, law in parts.items() for k, v in inside(f"{part}.branch", law).items()}
    norms = {k: v for part in parts for k, v in norm(f"{part}.norm").items()}
    return inside(f"blocks.{number}", {**laws, **norms})


GATED, END = GatedConfig(hidden_width=F), norm("final_norm")


def stack(count: int, inner: Expected, branches: int, *, cross: bool = False) -> Expected:
    blocks = [block(i, inner, branches, cross=cross) for i in range(count)]
    return {**{k: v for law in blocks for k, v in law.items()}, **END}


TOWERS: dict[str, tuple[TransformerConfig, Expected]] = {
    "three blocks": (tower((3, GATED, False)), stack(3, gated(6), 6)),
    "four blocks of eight experts": (
        tower((4, ExpertsConfig(hidden_width=F), False)),
        stack(4, experts(8, 8), 8),
    ),
    "a decoder": (tower((2, GATED, True)), stack(2, gated(6), 6, cross=True)),
    "two kinds": (
        tower((1, GATED, False), (1, MLPConfig(hidden_width=F), True)),
        {**block(0, gated(5), 5), **block(1, plain(5), 5, cross=True), **END},
    ),
    "registers and a norm of the input": (
        tower((1, GATED, False), registers=4, input_norm=LayerNormConfig()),
        {"registers": SMALL, **norm("input_norm", bias=True), **stack(1, gated(2), 2)},
    ),
}


@pytest.mark.parametrize("name", TOWERS)
def test_residual_branches_are_counted_by_tower(name: str) -> None:
    config, expected = TOWERS[name]
    check(config.build(), expected)


def test_a_layers_own_positions_are_no_depth() -> None:
    block = BlockConfig(
        attention=attention(),
        feedforward=GATED,
        positions=T5RelativeBiasConfig(),
    )
    config = TransformerConfig(width=D, layers=(LayersConfig(repeat=2, block=block),))
    check(config.build(), {"own.0.table.weight": SMALL, **stack(2, gated(4), 4)})


def drawn(**parts: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model of these parts, drawn."""
    model = nn.ModuleDict(parts)
    initialise(model, 0)
    return dict(model.named_parameters())


def test_a_towers_numbers_do_not_depend_on_other_parts() -> None:
    """Nor on towers, experts, codebooks and heads, which have numbered modules too."""
    small = tower((2, GATED, False))
    more = {
        "decoder": tower((3, ExpertsConfig(hidden_width=16, num_experts=4), True)).build(),
        "codes": VectorQuantizerConfig(**SIDES, codebooks=4).build(D, D),
        "head": PrototypesConfig().build(D),
    }
    alone, among = drawn(main=small.build()), drawn(main=small.build(), **more)
    assert all(torch.equal(parameter, among[name]) for name, parameter in alone.items())


class Outside(nn.Module):
    """What a package from outside may add: names that mean something elsewhere, and no law."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.out, self.output = (nn.Linear(D, D) for _ in range(3))
        self.convolution = nn.Conv2d(64, 64, 3)
        self.norms = nn.ModuleList([nn.GroupNorm(4, D), nn.BatchNorm1d(D)])
        self.table, self.vector = nn.Embedding(64, D), nn.Parameter(torch.zeros(D))


def test_a_name_gives_a_layer_from_outside_no_law() -> None:
    check(
        Outside(),
        {
            "vector": SMALL,
            "table.weight": SMALL,
            **linear("down", D),
            **linear("out", D),
            **linear("output", D),
            **linear("convolution", 64 * 9),
            **norm("norms.0", bias=True),
            **norm("norms.1", bias=True),
        },
    )


class Gate(nn.Module, Initialised):
    """A layer from outside that declares a law."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.ones(D, D)), nn.Parameter(torch.ones(1))

    def init_law(self, name: str) -> Law:
        return Law(std=0.5) if name == "weight" else Law(mean=-2.0)


class Gates(FeedForwardConfig):
    """Such a layer in a slot, with a map that ends its branch."""

    def build(self, width: int) -> nn.Module:
        return nn.Sequential(Gate(), nn.Linear(width, F), ResidualLinear(F, width))


def test_a_layer_from_outside_declares_its_law() -> None:
    maps = {**linear("1", D), **linear("2", 2 * 3 * F)}
    inner = {"0.weight": 0.5, "0.shift": Is(-2), **maps}
    built = tower((3, Gates(hidden_width=F), False)).build()
    assert isinstance(built, Transformer)
    check(built, stack(3, inner, 6))
