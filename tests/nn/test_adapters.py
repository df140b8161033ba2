"""Adapters of linear maps: what each kind computes, merged, mixed, and never lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear as product

from broadbase.core.errors import ConfigError
from broadbase.core.view import Predict, Segment, Stream, View, positions
from broadbase.inference.linear import Int8Linear, PackedLinear, eight_bit, packed
from broadbase.model.initialise import initialise
from broadbase.model.model import Model
from broadbase.nn.adapters.adapted import (
    AdaptedLinear,
    adapt_maps,
    adapted,
    learned,
    linears,
    merged,
    shared,
    start,
    targets,
)
from broadbase.nn.adapters.adapter import AdapterConfig, AdapterWeights
from broadbase.nn.adapters.dora import DoRAConfig
from broadbase.nn.adapters.ia3 import IA3Config
from broadbase.nn.adapters.lora import LoRAConfig
from broadbase.nn.adapters.mixed import mixed
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.fused import FusedLinears
from broadbase.nn.layer import LayerInputs
from broadbase.nn.patterns import Mask
from broadbase.train.tensor_parallel import split
from support.adapters import random_adapter
from support.models import EXPERTS, model, tiny

KINDS = (
    LoRAConfig(rank=3),
    LoRAConfig(rank=2, rank_stabilised=True, targets=("q", "v")),
    DoRAConfig(rank=3),
    IA3Config(),
)


def rows(count: int, seed: int = 0, length: int = 7) -> Segment:
    ids = torch.randint(0, 256, (count, length), generator=torch.Generator().manual_seed(seed))
    return Segment("bytes", ids, positions((length,)).expand(count, -1, -1))


@torch.no_grad()
def logits(built: Model, segment: Segment) -> Tensor:
    stream = Stream("main", "main", (segment,), "causal", readouts=(Predict("bytes", "next"),))
    return built(View((stream,))).predictions["next"]


def by_hand(config: Any, map_: nn.Linear, own: dict[str, Tensor], x: Tensor) -> Tensor:
    """The formulas of the papers."""
    y, weight = product(x, map_.weight), map_.weight
    bias = 0 if map_.bias is None else map_.bias
    if isinstance(config, IA3Config):
        return own["factor"] * (y + bias)
    scale = config.alpha / (math.sqrt(config.rank) if config.rank_stabilised else config.rank)
    direction = weight + scale * own["up"] @ own["down"]
    if isinstance(config, LoRAConfig):
        return x @ direction.T + bias
    rowwise = own["magnitude"][:, None] * direction / direction.norm(dim=1, keepdim=True)
    return x @ rowwise.T + bias


@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_each_kind_computes_its_formula(config: AdapterConfig, bias: bool) -> None:
    torch.manual_seed(0)
    map_, x = nn.Linear(6, 5, bias=bias), torch.randn(2, 3, 6)
    adapter = config.build("v", map_)
    own = {name: torch.rand_like(p) + 0.5 for name, p in adapter.named_parameters()}
    for name, tensor in own.items():
        setattr(adapter, name, nn.Parameter(tensor))
    both = AdaptedLinear(map_, adapter)
    expected = by_hand(config, map_, own, x)
    assert torch.allclose(both(x), expected, atol=1e-5)
    assert torch.allclose(both.update.merged(both)(x), expected, atol=1e-5)


def test_factors_of_inputs_come_before_the_map() -> None:
    torch.manual_seed(0)
    map_, x = nn.Linear(6, 5), torch.randn(4, 6)
    adapter = IA3Config().build("down", map_)
    adapter.factor = nn.Parameter(torch.rand(6) + 0.5)
    both = AdaptedLinear(map_, adapter)
    assert torch.allclose(both(x), map_(x * adapter.factor), atol=1e-6)
    assert torch.allclose(both.update.merged(both)(x), both(x), atol=1e-6)


@pytest.mark.parametrize("config", KINDS)
def test_training_starts_at_the_base(config: AdapterConfig) -> None:
    base = tiny()
    twin = shared(base)
    new = adapt_maps(twin, config, targets(twin, config))
    initialise(twin, 3, new)
    start(twin)
    assert torch.allclose(logits(twin, rows(2)), logits(base, rows(2)), atol=1e-6)


@pytest.mark.parametrize("config", KINDS)
def test_merged_equals_apart(config: AdapterConfig) -> None:
    base = tiny()
    apart = adapted(base, random_adapter(base, config))
    expected = logits(apart, rows(3))
    assert (logits(base, rows(3)) - expected).abs().max() > 1e-2
    together = merged(apart)
    assert not any(isinstance(module, AdaptedLinear) for module in together.modules())
    assert torch.allclose(logits(together, rows(3)), expected, atol=1e-5)
    assert torch.equal(logits(adapted(base, learned(apart, config)), rows(3)), expected)


@pytest.mark.parametrize("use", [packed, eight_bit])
@pytest.mark.parametrize("config", KINDS)
def test_no_use_on_a_cpu_loses_an_adapter(config: AdapterConfig, use: Any) -> None:
    """Fused, packed or in 8 bits: the adapter counts, whether apart, mixed or merged."""
    base = tiny()
    own = random_adapter(base, config)
    apart = adapted(base, own)
    expected = logits(apart, rows(3))
    lost = (logits(use(base), rows(3)) - expected).norm()
    bar = 1e-4 * lost if use is packed else 0.3 * lost
    several = mixed(base, {"a": own})
    used = use(several.model)
    quick = PackedLinear if use is packed else Int8Linear
    assert any(isinstance(module, quick) for module in used.modules())
    with several.chosen(["a"] * 3):
        assert (logits(used, rows(3)) - expected).norm() < bar
    for other in (use(apart), use(merged(apart))):
        assert (logits(other, rows(3)) - expected).norm() < bar


def test_maps_with_adapters_are_not_fused() -> None:
    base = tiny()
    several = mixed(base, {"a": random_adapter(base, LoRAConfig(targets=("q",)))})
    for built in (adapted(base, random_adapter(base, LoRAConfig(targets=("q",)))), several.model):
        attention = built.towers["main"].blocks[0].attention.branch
        assert isinstance(attention, FusedLinears)
        assert not attention.can_fuse
        with pytest.raises(ConfigError, match=r"q is a .*merge it into the weight"):
            attention.fuse()
    assert attention(torch.randn(1, 2, 16), LayerInputs(Mask(None)))[0].shape == (1, 2, 16)


@pytest.mark.parametrize("use", [lambda built: built, packed])
def test_many_adapters_in_one_batch_equal_each_alone(use: Any) -> None:
    """Eight of all kinds and several ranks, and rows without one, in any order."""
    base = tiny()
    configs: Sequence[AdapterConfig] = [*KINDS, LoRAConfig(rank=5), *KINDS[:3]]
    own = {f"a{i}": random_adapter(base, config, i) for i, config in enumerate(configs)}
    several = mixed(base, own)
    names = ["a3", None, *own, "a0", None]
    segment, used = rows(len(names), 1), use(several.model)
    with several.chosen(names):
        together = logits(used, segment)
    for i, name in enumerate(names):
        alone = base if name is None else adapted(base, own[name])
        one = Segment("bytes", segment.values[i : i + 1], segment.position[i : i + 1])
        assert torch.allclose(together[i], logits(alone, one)[0], atol=1e-5)
    assert torch.allclose(logits(used, segment), logits(base, segment), atol=1e-5)


def test_a_mixture_shares_the_weights_of_its_base() -> None:
    base = tiny()
    several = mixed(
        base, {"a": random_adapter(base, LoRAConfig()), "b": random_adapter(base, IA3Config())}
    )
    assert {p.data_ptr() for p in several.model.parameters()} == {
        p.data_ptr() for p in base.parameters()
    }
    assert all(p.requires_grad for p in base.parameters())


def test_wrong_rows_and_names_are_refused() -> None:
    base = tiny()
    several = mixed(base, {"one": random_adapter(base, LoRAConfig())})
    with pytest.raises(ConfigError, match="'on'; did you mean `one`"), several.chosen(["on"]):
        pass
    with several.chosen(["one", None]), pytest.raises(ConfigError, match=r"2 rows.*has 3"):
        logits(several.model, rows(3))


def test_experts_are_merged_and_not_mixed() -> None:
    base = model(EXPERTS)
    own = random_adapter(base, LoRAConfig())
    apart = adapted(base, own)
    assert torch.allclose(logits(merged(apart), rows(2)), logits(apart, rows(2)), atol=1e-5)
    with pytest.raises(ConfigError, match=r"experts.*merge the adapter"):
        mixed(base, {"a": own})
    several = mixed(base, {"a": random_adapter(base, LoRAConfig(targets=("q", "v")))})
    with several.chosen(["a", None]):
        plain = logits(base, rows(2))[1]
        assert torch.allclose(logits(several.model, rows(2))[1], plain, atol=1e-5)


def test_targets_are_names_or_paths() -> None:
    base = tiny()
    assert len(targets(base, LoRAConfig())) == len(linears(base)) == 14
    assert targets(base, LoRAConfig(targets=("blocks.1.attention.branch.q",))) == [
        "towers.main.blocks.1.attention.branch.q"
    ]
    with pytest.raises(ConfigError, match=r"'query'; it has: down, gate, k, out, q, up, v"):
        targets(base, LoRAConfig(targets=("query",)))


def test_an_adapter_of_another_base_is_refused() -> None:
    own = random_adapter(model({"name": "gated", "hidden_width": 48}), LoRAConfig(targets=("up",)))
    with pytest.raises(ConfigError, match=r"mine: .*another base"):
        adapted(tiny(), own, "mine")
    own = random_adapter(model({"name": "mlp", "hidden_width": 32}), LoRAConfig())
    with pytest.raises(ConfigError, match=r"this base has no map .*blocks\.2"):
        adapted(tiny(), own)
    strange = AdapterWeights(LoRAConfig(), {"towers.other.q.up": torch.zeros(1)})
    with pytest.raises(ConfigError, match="none of its tensors"):
        adapted(tiny(), strange)
    with pytest.raises(ConfigError, match="none of its tensors"):
        adapted(tiny(), AdapterWeights(LoRAConfig(), {}))


def test_ranks_cannot_split_a_map_with_an_adapter() -> None:
    base = tiny()
    apart: Any = adapted(base, random_adapter(base, LoRAConfig(targets=("down",))))
    with pytest.raises(ConfigError, match=r"down has an adapter.*tensor_parallel=1"):
        split(apart, None)  # type: ignore[arg-type]


def test_dropout_is_of_its_own_seed() -> None:
    config = LoRAConfig(rank=2, dropout=0.5)
    map_, x = nn.Linear(6, 5), torch.randn(2, 6)

    def outputs(seed: int) -> list[Tensor]:
        adapter = config.build("q", map_)
        for name in ("down", "up"):
            setattr(adapter, name, nn.Parameter(torch.ones_like(getattr(adapter, name))))
        both = AdaptedLinear(map_, adapter, seed).train()
        return [both(x), both(x), both.eval()(x)]

    first, second, plain = outputs(0)
    assert not torch.equal(first, second)
    assert all(torch.equal(*pair) for pair in zip(outputs(0), (first, second, plain), strict=True))
    assert not torch.equal(outputs(1)[0], first)
    assert torch.allclose(plain, by_hand(config, map_, {
        "up": torch.ones(5, 2), "down": torch.ones(2, 6)}, x), atol=1e-5)  # fmt: skip


def test_dora_learns_by_its_magnitude_and_direction() -> None:
    map_ = nn.Linear(4, 3)
    adapter = DoRAConfig(rank=2).build("q", map_)
    for name, parameter in adapter.named_parameters():
        setattr(adapter, name, nn.Parameter(torch.rand_like(parameter) + 0.1))
    AdaptedLinear(map_, adapter)(torch.randn(5, 4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in adapter.parameters())


def test_attention_with_one_adapted_map_counts_it() -> None:
    attention = GroupedQueryConfig(heads=2, kv_heads=2, head_dim=8).build(16)
    before = attention(x := torch.randn(1, 3, 16), LayerInputs(Mask(None)))[0]
    adapter = IA3Config().build("v", attention.v)
    adapter.factor = nn.Parameter(torch.full((16,), 2.0))
    attention.v = AdaptedLinear(attention.v, adapter)
    assert torch.allclose(attention(x, LayerInputs(Mask(None)))[0], 2 * before, atol=1e-5)
