"""How a base is used: what an objective says of it, and what its model folder keeps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from broadbase.core.config import Config, Slot
from broadbase.core.view import Segment, View


class GeneratorConfig(Slot):
    """How new values are made."""

    package: ClassVar[str] = "inference"
    attention: ClassVar[str]  # the attention pattern of the streams that it continues

    @abstractmethod
    def values(
        self,
        model: Any,
        view: View,
        positions: Iterable[Tensor],
        sample: Callable[[Tensor], Tensor],
    ) -> Iterator[Tensor]:
        """Continue the last stream of `view` [B,N]; yield new values, some tokens at a time.

        `positions` are those of the tokens that follow, [3] or [B,3] each; `sample` draws
        categories from logits.
        All that is yielded has as many tokens as positions: [B,1,...] for a method that makes one
        token after another, [B,M,...] for one that makes all at once. Whoever needs no more values
        stops reading.
        """


class ConditioningConfig(Slot):
    """How a base is given what it generates from."""

    package: ClassVar[str] = "inference"
    batched: ClassVar[bool] = True  # whether prompts are read side by side
    closed: ClassVar[bool] = True  # whether what is given is read with its end
    source: str | None = None
    """The modality that is given; without one it is the modality that is generated."""
    target: str | None = None
    """The modality that is generated; without one it is the modality that the user names."""

    @abstractmethod
    def prompt(self, given: Segment, begun: Segment) -> View:
        """Return the view whose last stream is to be continued.

        `given` [B,N] is what the base generates from, `begun` [B,T] the output as far as it is
        given, at least its start.
        """


class Usage(Config):
    """How a base is used; its model folder keeps it, so that the base answers without its run."""

    attention: str = "causal"
    """The attention pattern in which tokens see each other: `causal` or `full`."""
    attention_of: dict[str, str] = Field(default_factory=dict)
    """The attention patterns of towers that have another one, by tower."""
    generator: GeneratorConfig | None = None
    """How new values are made; without one the base does not generate."""
    conditioning: ConditioningConfig | None = None
    """How the base is given what it generates from; without one it continues its prompt."""
    grids: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """The grids of modalities whose records all have the same one, such as rows and columns."""
    infilling: dict[str, tuple[int, int, int]] = Field(default_factory=dict)
    """The marks of prefix, suffix and middle, by modality, where the base learned to fill in."""


@dataclass(frozen=True)
class DataFacts:
    """What an objective knows of the data when it says how its base is used."""

    modalities: Mapping[str, str]  # by source
    grids: Mapping[str, tuple[int, ...]]  # by modality, if all its records have the same one
    sentinels: Mapping[str, range]  # by modality: ids that no record holds
