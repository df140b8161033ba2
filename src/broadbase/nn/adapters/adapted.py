"""A model with the adapter of one task: built, trained, filled with what was learned, and merged.

An adapted map has the weight and bias of the base as its own, under their old names, and its
adapter next to them, so that the state of the model is that of the base and the adapter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import ClassVar, TypeVar

import torch
from numpy.random import SeedSequence
from torch import Generator, Tensor, nn

from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import seed_of
from broadbase.nn.adapters.adapter import Adapter, AdapterConfig, AdapterWeights, Update
from broadbase.nn.layer import Branch
from broadbase.nn.tensor_parallel import TensorParallel

AnyModule = TypeVar("AnyModule", bound=nn.Module)
TOWERS = "towers."  # before the names of the maps of attention and of feed-forwards
ADAPTER = "adapter"


class AdaptedLinear(nn.Linear, TensorParallel):
    """A frozen linear map and the adapter that is trained for it.

    It is no plain linear map, and so it is neither fused with others, nor packed, nor computed with
    in 8 bits (`nn/fused.py`, `inference/linear.py`): the adapter would be lost.
    """

    unsplittable: ClassVar[str] = "has an adapter"

    def __init__(self, linear: nn.Linear, adapter: Adapter, seed: int = 0) -> None:
        """Take the map, its adapter, and the seed of dropout."""
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias  # one parameter of both models
        self.adapter = adapter
        self.seed = seed
        self._chance: Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map [...,K] to [...,F]."""
        return self.update.apply(super().forward, x, self._dropped(x))

    @property
    def update(self) -> Update:
        """What the adapter makes of the map."""
        return self.adapter.update(self)

    def _dropped(self, x: Tensor) -> Tensor:
        """Return x with some of its numbers set to 0 in training, and the others enlarged."""
        share = self.adapter.dropout
        if not (self.training and share):
            return x
        self._chance = self._chance or Generator(x.device).manual_seed(self.seed)
        kept = torch.empty_like(x).bernoulli_(1 - share, generator=self._chance)
        return x * kept / (1 - share)


def shared(model: AnyModule) -> AnyModule:
    """Return a copy of a model's modules with the same parameters, not copies of them."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters()})


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear maps of the branches of a model's towers by their paths."""
    return {
        f"{path}.{name}": module
        for path, branch in model.named_modules()
        if isinstance(branch, Branch) and path.startswith(TOWERS)
        for name, module in branch.named_modules()
        if isinstance(module, nn.Linear)
    }


def targets(model: nn.Module, config: AdapterConfig) -> list[str]:
    """Return the paths of the maps that an adapter of these settings adapts.

    A target is a path or its end. ConfigError names a target that no map has.
    """
    paths = linears(model)
    chosen = set[str]()
    for target in config.targets or config.usual:
        fitting = {path for path in paths if f".{path}".endswith(f".{target}")}
        if config.targets is not None and not fitting:
            names = ", ".join(sorted({path.rpartition(".")[2] for path in paths}))
            raise ConfigError(
                f"targets: no linear map of this base is called {target!r}; it has: {names}"
            )
        chosen |= fitting
    if not chosen:
        raise ConfigError(f"this base has no linear maps that {config.name!r} could adapt")
    return [path for path in paths if path in chosen]


def adapt_maps(
    model: nn.Module, config: AdapterConfig, paths: Collection[str], seed: int = 0
) -> list[str]:
    """Give the maps of these paths an adapter without numbers, in place.

    Return the names of the new parameters, for `initialise`; then call `start`.
    """
    names = []
    for path in paths:
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        adapter = config.build(path.rpartition(".")[2], linear)
        _replace(model, path, AdaptedLinear(linear, adapter, _seed(seed, path)))
        names += [f"{path}.{ADAPTER}.{name}" for name, _ in adapter.named_parameters()]
    return names


def start(model: nn.Module) -> None:
    """Set what adapters begin with as a function of the weights of their maps."""
    for _, linear in _adapted(model):
        linear.adapter.start(linear)


def learned(model: nn.Module, config: AdapterConfig) -> AdapterWeights:
    """Return what the adapters of a model have learned."""
    tensors = {
        f"{path}.{name}": parameter.detach()
        for path, linear in _adapted(model)
        for name, parameter in linear.adapter.named_parameters()
    }
    return AdapterWeights(config, tensors)


def adapted(model: AnyModule, weights: AdapterWeights, where: str = "the adapter") -> AnyModule:
    """Return a model with the adapter, which shares the parameters of `model`.

    ConfigError, which begins with `where`, if the adapter is of another base.
    """
    check_fits(model, weights, where)
    twin = shared(model)
    adapt_maps(twin, weights.config, weights.maps)
    for path, linear in _adapted(twin):
        for name, parameter in linear.adapter.named_parameters():
            tensor = weights.tensors[f"{path}.{name}"].to(linear.weight.device)
            setattr(linear.adapter, name, nn.Parameter(tensor, parameter.requires_grad))
    return twin


def check_fits(model: nn.Module, weights: AdapterWeights, where: str) -> None:
    """Raise ConfigError unless each tensor of an adapter belongs to a map of the model."""
    maps, missing = linears(model), []
    for path in weights.maps:
        if path not in maps:
            missing.append(path)
            continue
        built = weights.config.build(path.rpartition(".")[2], maps[path])
        wanted = {f"{path}.{name}": p.shape for name, p in built.named_parameters()}
        given = {k: t.shape for k, t in weights.tensors.items() if k.rpartition(".")[0] == path}
        if wanted != given:
            raise ConfigError(
                f"{where}: it has {_sizes(given)}, and a {weights.config.name} of this base has"
                f" {_sizes(wanted)}; it was made for another base"
            )
    if not weights.maps or len(missing) == len(weights.maps):
        raise ConfigError(f"{where}: none of its tensors belongs to a map of this base")
    if missing:
        raise ConfigError(f"{where}: this base has no map {missing[0]}; it is of another base")


def merged(model: AnyModule) -> AnyModule:
    """Return a model in which each adapted map is a plain one that computes the same.

    It shares the other parameters.
    """
    twin = shared(model)
    with torch.no_grad():
        for path, linear in _adapted(twin):
            _replace(twin, path, linear.update.merged(linear))
    return twin


def updates(
    model: nn.Module, weights: AdapterWeights, where: str = "the adapter"
) -> dict[str, Update]:
    """Return what an adapter makes of each of its maps of a model; ConfigError as `adapted`."""
    twin = adapted(model, weights, where)
    return {path: linear.update.detached() for path, linear in _adapted(twin)}


def replaced(model: AnyModule, paths: Collection[str], make: Callable[..., nn.Module]) -> AnyModule:
    """Return a copy that shares its parameters, with `make(path, linear)` at these paths."""
    twin = shared(model)
    for path in paths:
        _replace(twin, path, make(path, twin.get_submodule(path)))
    return twin


def _adapted(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """Yield the adapted maps of a model with their paths."""
    for path, module in [*model.named_modules()]:
        if isinstance(module, AdaptedLinear):
            yield path, module


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, module)


def _seed(seed: int, path: str) -> int:
    """Return the seed of the dropout of a map."""
    return int(SeedSequence(seed_of(seed, "dropout", path)).generate_state(1)[0])


def _sizes(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
