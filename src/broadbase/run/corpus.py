"""What a run trains on and is tested on: rows of its prepared sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broadbase.core.contracts import Batch
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom
from broadbase.data.batches import MixedBatches, held_out
from broadbase.data.pairs import align_pairs
from broadbase.data.rows import Row, Rows, one_per_row, pack_beginnings, pack_rows
from broadbase.data.store.store import Store
from broadbase.run.config import RunConfig
from broadbase.train.metrics_log import bits_per_unit


@dataclass(frozen=True)
class Corpus:
    """The prepared sources of a config."""

    config: RunConfig
    stores: Mapping[str, Store]

    def rows(self, split: str) -> dict[str, Rows]:
        """Return the rows of every source: split is "train" or "validation".

        Row i of paired sources is one record; other rows are packed.
        """
        mixed, modalities = self.config.data.sources, self.config.model.modalities
        rows = {
            name: Rows(
                self.stores[name].split(split),
                m.row_length,
                pack_rows if modalities[m.modality].continued else pack_beginnings,
            )
            for name, m in mixed.items()
            if m.pair_group is None
        }
        for names in self.config.data.groups().values():
            splits = align_pairs({name: self.stores[name] for name in names}, split)
            rows |= {n: Rows(s, mixed[n].row_length, one_per_row) for n, s in splits.items()}
        return {name: rows[name] for name in mixed}

    def mixture(self) -> MixedBatches:
        """Return which rows every step takes."""
        mixed = self.config.data.sources
        return MixedBatches(
            self.rows("train"),
            spaces={name: m.modality for name, m in mixed.items()},
            counts={name: m.batch_size for name, m in mixed.items()},
            seed=self.config.seed,
            limits={name: m.limit for name, m in mixed.items()},
            pairs={name: m.pair_group for name, m in mixed.items()},
        )

    def epochs(self) -> dict[str, float]:
        """Return how often the run reads each source's training rows in all."""
        rows, steps = self.rows("train"), self.config.train.steps
        return {
            name: steps * m.batch_size / min(len(rows[name]), m.limit or len(rows[name]))
            for name, m in self.config.data.sources.items()
        }

    def check_repeats(self) -> None:
        """Raise ConfigError where a source is read more often than it allows."""
        for name, epochs in self.epochs().items():
            most = self.config.data.sources[name].max_epochs
            if most is not None and epochs > most:
                raise ConfigError(
                    f"data.sources.{name}.max_epochs: the run would read its rows {epochs:.1f}"
                    f" times, {most:g} are allowed; give it more data, fewer rows a step or"
                    " fewer steps"
                )

    def seen(self, source: str, most: int | None = None) -> list[Row]:
        """Return the different rows of a source that the run trained on, of the first `most`."""
        mixture, mixed = self.mixture(), self.config.data.sources[source]
        rows, order = mixture.rows[source], mixture.orders[source]
        count = self.config.train.steps * mixed.batch_size
        count = count if most is None else min(count, most)
        return [rows[i] for i in sorted({order[g] for g in range(count)})]

    def likelihoods(self) -> Mapping[str, str]:
        """Return the terms of the loss that are the likelihood of a source, and its name."""
        return self.config.objective.likelihoods(self.config.data.sources)

    def bits(self) -> dict[str, float]:
        """Return the factor from nats per token to bits per unit of each likelihood, held out."""
        factors = {}
        for term, source in self.likelihoods().items():
            split = self.stores[source].split("validation")
            factors[term] = bits_per_unit(split.targets, split.units)
        return factors

    def held_out(self, limit: int | None = None) -> Iterator[Batch]:
        """Yield the validation rows in order, a batch from one source (or one group of pairs).

        At most `limit` rows of each source; None: all.
        """
        mixed, rows = self.config.data.sources, self.rows("validation")
        single = [[name] for name, m in mixed.items() if m.pair_group is None]
        for names in (*single, *self.config.data.groups().values()):
            parts = (
                held_out(rows[n], mixed[n].modality, mixed[n].batch_size, limit) for n in names
            )
            for i, segments in enumerate(zip(*parts, strict=True)):
                # A stream of chance of its own, the same at every evaluation.
                draws = KeyedRandom(self.config.seed + 1, i)
                yield Batch(i, dict(zip(names, segments, strict=True)), draws)
