"""A Base: a pretrained model with its codecs, ready to be used."""

from __future__ import annotations

from dataclasses import dataclass, replace

from broadbase.inference.embedding import Embedding
from broadbase.inference.filling import Filling
from broadbase.inference.linear import eight_bit
from broadbase.inference.reader import Origin
from broadbase.inference.scoring import Scoring
from broadbase.inference.streaming import Streaming
from broadbase.model.initialise import initialise

__all__ = ["Base", "Origin"]


@dataclass(frozen=True, repr=False)
class Base(Embedding, Streaming, Filling, Scoring):
    """What `broadbase.load` returns: raw values in; raw values, vectors or logits out."""

    def __repr__(self) -> str:
        """Return its modalities and its number of parameters."""
        kinds = ", ".join(f"{n}: {self.config.modalities[n].name}" for n in self.codecs)
        size = sum(p.numel() for p in self.model.parameters())
        return f"Base({kinds}; {size:,} parameters)"

    def reinitialised(self, seed: int) -> Base:
        """Return the same base with a random init, the baseline of any claim of transfer."""
        model = self.config.build()
        initialise(model, seed)
        model.to(next(self.model.parameters()).device)
        return replace(self, model=model.eval())

    def eight_bit(self) -> Base:
        """Return the same base with the weights of its linear maps in 8 bits.

        They take a quarter of the memory and are faster on a CPU. Such a base cannot be saved or
        trained. `python bench/eight_bit.py RUN` measures what it costs in perplexity.
        """
        return replace(self, model=eight_bit(self.model))
