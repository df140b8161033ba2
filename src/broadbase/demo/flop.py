"""What the pretraining of a base cost: 6 FLOP for each weight of the layers and token.

That is forward and backward (Kaplan et al. 2020, section 2.1); embeddings and the products of
attention are left out. A forward pass alone is a third.
"""

from __future__ import annotations

from collections.abc import Mapping

from broadbase.inference.base import Base

# Card of all-MiniLM-L6-v2: steps, pairs of texts a step, texts of a pair, most tokens of a text
CONTRAST = 100_000 * 1024 * 2 * 128
# Its parent, before half of the layers were taken: MiniLM (Wang et al. 2020), whose numbers here
# are not checked against the paper: steps, rows a step, tokens a row; the teacher is of the size of
# BERT-Base
DISTILLATION = 400_000 * 1024 * 512
TEACHER = 12 * 12 * 768**2  # weights of its layers


def layers(base: Base) -> int:
    """Return the number of weights of the layers of a base, without embeddings and heads."""
    return sum(p.numel() for p in base.model.towers.parameters())


def trained(base: Base, tokens: int) -> float:
    """Return the FLOP of a training on so many tokens."""
    return 6.0 * layers(base) * tokens


def minilm(base: Base) -> Mapping[str, float]:
    """Return the FLOP of each stage of all-MiniLM-L6-v2, at most, as texts are often shorter.

    The student of the distillation had twice the layers; each of its tokens also went once through
    the teacher, whose own training is not counted.
    """
    return {
        "contrast": trained(base, CONTRAST),
        "distillation": (6.0 * 2 * layers(base) + 2.0 * TEACHER) * DISTILLATION,
    }
