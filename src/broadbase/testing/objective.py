"""The check of an objective, by itself and on the records of some sources."""

from __future__ import annotations

import numpy as np

from broadbase.core.contracts import ModalityConfig, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.modalities.bytes import BytesConfig
from broadbase.modalities.image import ImageConfig
from broadbase.testing.leaks import check_no_leak
from broadbase.testing.promise import promise
from broadbase.testing.resume import check_resume
from broadbase.testing.trial import NO_HEADS, Heads, Sources, Trial
from broadbase.testing.views import (
    check_learning,
    check_padding,
    check_random,
    check_readouts,
    check_sums,
)

WORDS = ("red", "green", "blue", "and", "or")


def check_objective(
    config: ObjectiveConfig,
    sources: Sources | None = None,
    *,
    heads: Heads = NO_HEADS,
    sees_targets: bool = False,
) -> None:
    """Check what an objective promises; BrokenPromiseError says in one sentence what does not hold.

    `sources` are records of one or more modalities, by the names that the objective has for its
    sources; four records or more of each, and those of several sources are pairs. Without them,
    texts as bytes are tried and pictures as patches, and the objective must take one of the two.
    `heads` are those that the objective names, each with its tower. `sees_targets` is for
    objectives that predict what they read, such as an autoencoder.
    """
    tree = config.tree()
    promise(
        type(config).from_tree(tree) == config,
        f"settings are read back from their tree as they were: {tree}",
    )
    tried = _builtin() if sources is None else [sources]
    refusals = []
    for given in tried:
        pairs = {name: "pair" if len(given) > 1 else None for name in given}
        try:
            config.check(pairs)
            check_pairing(given, config, heads=heads, sees_targets=sees_targets)
        except (ConfigError, ValueError) as refusal:
            refusals.append(f"{', '.join(m.name for m, _ in given.values())}: {refusal}")
            continue
        check_resume(Trial.of(given, config, heads))
    promise(
        len(refusals) < len(tried),
        "an objective takes some data, give check_objective `sources` that it takes; it refused "
        + "; ".join(refusals),
    )


def check_pairing(
    sources: Sources,
    objective: ObjectiveConfig,
    *,
    heads: Heads = NO_HEADS,
    sees_targets: bool = False,
) -> tuple[float, float]:
    """Check an objective on records; return the loss before and after a short training on them.

    Each source has at least four records, which are read as one batch. `heads` are those that the
    objective names, each with its tower. `sees_targets` is for objectives that predict what they
    read, such as an autoencoder. BrokenPromiseError says what does not hold; ConfigError comes from
    an objective that does not take this data.
    """
    trial = Trial.of(sources, objective, heads)
    views = trial.views()
    check_random(trial, views)
    check_readouts(views)
    check_sums(trial, views)
    check_padding(trial)
    if not sees_targets:
        check_no_leak(trial)
    return check_learning(trial)


def _builtin() -> list[Sources]:
    """Return small texts as bytes, and small pictures."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 12))[:40] for _ in range(4)]
    pictures = [rng.integers(0, 2, (4, 4)).astype(np.float64) for _ in range(4)]
    image = ImageConfig(height=4, width=4, channels=1, patch=2)
    sources: list[tuple[ModalityConfig, list[object]]] = [
        (BytesConfig(extra_ids=24), list(texts)),
        (image, list(pictures)),
    ]
    return [{"source": source} for source in sources]
