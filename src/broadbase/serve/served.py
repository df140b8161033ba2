"""What a server serves: bases and adapted bases by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from broadbase import adapt
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.weights.folder import load
from broadbase.weights.samples import sample_name

ADAPTED = "adapted.json"  # in a folder of `adapt`, which takes a second to import


@dataclass(frozen=True)
class Served:
    """Bases and adapted bases by name."""

    bases: Mapping[str, Base]
    adapted: Mapping[str, adapt.adapted.Adapted]

    @classmethod
    def load(
        cls, folders: Iterable[Path], device: str, change: Callable[[Base], Base] | None = None
    ) -> Served:
        """Load the folders; `change` is applied to each base.

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
                base = load(folder, device)
                bases[name] = base if change is None else change(base)
        return cls(bases, adapted)


def served_name(folder: Path) -> str:
    """Return the name that clients give: of a sample, of a run, or of a folder."""
    if name := sample_name(folder):
        return name
    path = folder.expanduser().absolute()
    return path.parent.name if path.name == "model" else path.name
