"""What a modality, a tower and an objective promise each other, and nothing more.

Legend: B batch, N tokens, S scored tokens, K channels, D width.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Field
from torch import Tensor

from broadbase.core.codec import Codec
from broadbase.core.config import Config, Slot
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.spaces import Space
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Output, Segment, Tokens, TowerOutput, View


@dataclass(frozen=True)
class Batch:
    """One rank's data of one step: rows by source, and the chance that belongs to them."""

    step: int
    segments: Mapping[str, Segment]
    rng: KeyedRandom


class Boundaries(Protocol):
    """How the values of a document fall into larger units: words, sentences."""

    def __call__(self, values: Tensor) -> Tensor:
        """Return whether each token of values [N,...] begins one: [N] bool."""
        ...


class Corruption(Protocol):
    """The parameter-free half of a modality: what noise means here, in worker processes too."""

    @property
    def units(self) -> Mapping[str, Boundaries]:
        """The larger units there are, by name: "word", "sentence"; may be none."""
        ...

    @property
    def sentinels(self) -> range:
        """Ids that no record holds, for objectives that mark spans with them; may be none."""
        ...

    def noise(self, values: Tensor, chosen: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Corrupt the `chosen` tokens [B,N] of values [B,N,...] by uniform `draws` [B,N].

        Returns the new values and which tokens [B,N] are embedded as hidden.
        """
        ...

    def crop(
        self, values: Tensor, scale: float, area: tuple[float, float], draws: KeyedRandom, name: str
    ) -> tuple[Tensor, Tensor]:
        """Another look at every record of values [B,N,...], the start first: a part of it.

        The part is between `area[0]` and `area[1]` of the record and is given in `scale` times as
        many tokens along each axis. Returns values [B,M,...] and positions [B,M,3]. Chance is
        `draws` under `name`. ConfigError where a part of a record is no such record.
        """
        ...


class ModalityConfig(Slot):
    """Settings of a modality; `fit` gives its Codec, `space` its Space, for the same numbers."""

    package: ClassVar[str] = "modalities"
    divisible: ClassVar[bool] = False  # whether a part of a record is a record too, as of a text
    continued: ClassVar[bool] = True  # whether a row may begin inside a record that is longer
    weighted: ClassVar[bool] = False  # whether its samples say how much each token is a target
    describes: ClassVar[str] = ""  # modality whose records its values describe, where any is

    @property
    def record_length(self) -> int | None:
        """The tokens of every record, with its start; None: records differ in length."""
        return None

    @property
    def vector_size(self) -> int | None:
        """The numbers of a token's vector; None: they are ids, or it depends on the data."""
        return None

    @property
    def id_settings(self) -> Config | None:
        """The `DiscreteConfig` of a modality of ids; None for other values."""
        return None

    @property
    def codec_modality(self) -> ModalityConfig:
        """The modality that makes the codec; another one for records in a published vocabulary."""
        return self

    def over(self, base: ModalityConfig, codec: Codec) -> ModalityConfig:
        """Return the modality of a run that starts from a base which has `base` in this place.

        `codec` is that of the base. By default it is the base's.
        """
        return base

    def adopt(self, codec: Codec) -> Codec:
        """Return the codec of this modality that has the ids of a base's; by default it itself."""
        return codec

    def clean(self, raw: Any) -> Any:
        """Bring a record into the form that is kept: ValueError where it has none. Idempotent."""
        return raw

    def clean_prefix(self, raw: Any) -> Any:
        """Bring the beginning of a record into that form, as far as a part of a record has one."""
        return self.clean(raw)

    def conversions(self, raw: Any) -> tuple[str, ...]:
        """List what `clean` and the codec knowingly change in a record: "44100 to 16000 Hz"."""
        return ()

    def shingles(self, raw: Any) -> Sequence[str]:
        """Return what near duplicates share (n-grams); nothing: only equal records match."""
        return ()

    def chunks(self, raw: Any) -> Iterable[Any]:
        """Cut a record into parts, a long one into many: their encodings in a row are the record's.

        A long record is then never in memory as numbers. A record without such parts is one part.
        """
        return (raw,)

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return a codec learned from training records (a tokenizer), or ready as it is.

        ConfigError where the codec comes with published weights, which is the default.
        """
        raise ConfigError(
            f"modality {self.name!r} is that of published weights: load their folder, or train with"
            " another modality"
        )

    @abstractmethod
    def load(self, folder: Path) -> Codec:
        """Return the codec that `Codec.save` wrote into `folder`."""

    @abstractmethod
    def space(self, width: int) -> Space:
        """Return an Embedder, a Head, or what is both, for a tower of `width`."""

    @abstractmethod
    def corruption(self) -> Corruption:
        """Return what noise means for these values."""

    def corruption_of(self, codec: Codec) -> Corruption:
        """Return the corruption with the units that the codec alone defines, such as words."""
        return self.corruption()


class Tower(Protocol):
    """The backbone: knows positions and who sees whom, never what the values mean."""

    width: int
    aux_loss_weights: Mapping[str, float]  # by name of `TowerOutput.aux_losses`, in the loss

    def __call__(
        self,
        x: Tensor,
        tokens: Tokens,
        pattern: str,
        *,
        context: TowerOutput | None = None,
        condition: Tensor | None = None,
        cache: Any = None,
        layers: bool = False,
    ) -> TowerOutput:
        """Map embedded tokens [B,T,D] to hidden states; `layers` keeps those of each block too."""
        ...


class TowerConfig(Slot):
    """Settings of a backbone."""

    package: ClassVar[str] = "nn"
    width: Annotated[int, Field(ge=1)]
    """The width of the vectors between layers."""

    @property
    def max_length(self) -> float:
        """The most tokens that a row may have."""
        return math.inf

    @abstractmethod
    def build(self) -> Any:
        """Return the Tower, an nn.Module."""


class Objective(Protocol):
    """Makes Views from batches and a Loss from Outputs; holds no parameters."""

    @property
    def batch_coupled(self) -> bool:
        """Whether rows of a batch depend on each other, so that `loss` needs all of them at once.

        It then uses nothing of the outputs but their scores and predictions.
        """
        ...

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """One batch as the passes it takes; `corrupt` has the corruption of every Space.

        None, where the batch lacks what it needs: evaluation brings sources one by one.
        """
        ...

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """Weight and scale of every term of these views, before any forward."""
        ...

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """Compute the total of every term; outputs are in the order of their views."""
        ...


TOWER = "tower"  # marks the fields of an objective that name a tower
TowerName = Annotated[str, TOWER]


def named_towers(config: Config, path: str) -> Iterator[tuple[str, str]]:
    """Yield the towers that an objective's settings name, each with the field that names it."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if TOWER in field.metadata and value is not None:
            yield f"{path}.{name}", value
        parts = value if isinstance(value, Mapping) else {"": value}
        for key, part in parts.items():
            if isinstance(part, Config):
                yield from named_towers(part, ".".join(filter(None, (path, name, key))))


class ObjectiveConfig(Slot):
    """Settings of an objective."""

    package: ClassVar[str] = "objectives"
    pattern: ClassVar[str] = "full"  # who sees whom, also when the base is used

    @property
    def needs_start(self) -> bool:
        """Whether its teacher must be the model as training starts."""
        return False

    def check(self, sources: Mapping[str, str | None]) -> None:
        """ValueError where a setting does not fit the data: its sources, and the pairs of each."""

    def likelihoods(self, sources: Iterable[str]) -> Mapping[str, str]:
        """Return the terms that are the likelihood of a complete source, and its name.

        Bits per unit mean something for these terms, and for no others.
        """
        return {}

    def usage(self, facts: DataFacts) -> Usage:
        """Return how a base of this objective is used; by default it does not generate."""
        return Usage(attention=self.pattern, grids=dict(facts.grids))

    @abstractmethod
    def build(self) -> Objective:
        """Return the objective."""
