"""How long a run trains, and what it keeps on the way."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from broadbase.core.config import Config
from broadbase.train.tracker import TrackerConfig

Steps = Annotated[int, Field(ge=1)]


class TrainConfig(Config):
    """How long to train, and what to keep on the way."""

    steps: Steps = 1000
    """The number of optimizer steps."""
    micro_batches: Steps = 1
    """The pieces of a batch that go through the model one after another, to fit into memory;
    gradients are those of the full batch."""
    grad_clip: Annotated[float, Field(gt=0)] | None = 1.0
    """The largest norm of the gradient over all parameters, larger ones are scaled down; null: no
    clipping."""
    evaluate_every: Steps = 100
    """The steps from one evaluation on held-out rows to the next."""
    samples: Annotated[int, Field(ge=0)] = 2
    """How many samples of each source are generated after each evaluation, into samples.jsonl; 0:
    none. Only on one device, and only of what the base generates from nothing or a beginning."""
    save_every: Steps = 100
    """The steps from one checkpoint to the next."""
    keep_last: Steps = 2
    """How many of the newest checkpoints are kept; 2, so that one is left if the newest is
    damaged."""
    keep_every: Steps | None = None
    """Checkpoints at multiples of this step are kept for good; null: none."""
    workers: Annotated[int, Field(ge=0)] = 0
    """The processes that build batches ahead of the step; 0: the training process builds them."""
    tracker: TrackerConfig | None = None
    """Another program that is shown what the journal records; null: none."""
