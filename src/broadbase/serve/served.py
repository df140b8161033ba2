"""What a server serves: bases and adapted bases by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from broadbase import adapt
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.batching import Batch
from broadbase.nn.adapters.mixed import Mixture, mixed
from broadbase.weights.folder import load
from broadbase.weights.peft import read_adapter
from broadbase.weights.samples import sample_name

ADAPTED = "adapted.json"  # in a folder of `adapt`, which takes a second to import


@dataclass(frozen=True)
class Served:
    """Bases and adapted bases by name."""

    bases: Mapping[str, Base]
    adapted: Mapping[str, adapt.adapted.Adapted]
    adapters: Mapping[str, str] = field(default_factory=dict)  # by name: that of the base
    mixtures: Mapping[str, Mixture] = field(default_factory=dict)  # adapters by base

    @classmethod
    def load(cls, folders: Iterable[Path], device: str) -> Served:
        """Load the folders.

        ConfigError where two have one name. Errors of a folder are those of `load`.
        """
        bases: dict[str, Base] = {}
        adapted: dict[str, adapt.adapted.Adapted] = {}
        for folder in folders:
            name = served_name(folder)
            if name in bases or name in adapted:
                raise ConfigError(
                    f"two folders are called {name!r}; rename one, or serve one alone"
                )
            if (folder / ADAPTED).exists():
                adapted[name] = adapt.adapted.load_adapted(folder, device)
            else:
                bases[name] = load(folder, device)
        return cls(bases, adapted)

    @classmethod
    def with_adapters(
        cls,
        folders: Sequence[Path],
        adapters: Mapping[str, Path],
        device: str,
        change: Callable[[Base], Base] | None = None,
    ) -> Served:
        """Load the folders, and adapters in PEFT's files of the one base among them.

        ConfigError where there are several bases, an adapter is of another, or a name is taken.
        """
        served = cls.load(folders, device)
        if not adapters:
            return served.changed(change)
        if len(served.bases) != 1:
            raise ConfigError("--adapter: adapters are of one base; serve that alone")
        (name, base), *_ = served.bases.items()
        if taken := adapters.keys() & {*served.bases, *served.adapted}:
            raise ConfigError(f"--adapter: {min(taken)!r} is the name of a folder; give another")
        if not Batch.supports(base):
            raise ConfigError(f"--adapter: {name!r} does not generate token by token in a batch")
        mixture = mixed(base.model, {k: read_adapter(p, base) for k, p in adapters.items()})
        served = replace(served, adapters=dict.fromkeys(adapters, name), mixtures={name: mixture})
        return served.changed(change)

    def changed(self, change: Callable[[Base], Base] | None) -> Served:
        """Return the same with `change` applied to each base, and to the models of mixtures."""
        if change is None:
            return self
        mixtures = {
            name: replace(
                mixture, model=change(replace(self.bases[name], model=mixture.model)).model
            )
            for name, mixture in self.mixtures.items()
        }
        bases = {name: change(base) for name, base in self.bases.items()}
        return replace(self, bases=bases, mixtures=mixtures)


def served_name(folder: Path) -> str:
    """Return the name that clients give: of a sample, of a run, or of a folder."""
    if name := sample_name(folder):
        return name
    path = folder.expanduser().absolute()
    return path.parent.name if path.name == "model" else path.name
