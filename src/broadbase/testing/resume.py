"""The check that a resumed training ends with the weights of one that was not interrupted."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from broadbase.testing.promise import promise, same
from broadbase.testing.trial import Trial
from broadbase.train.checkpoint import newest

STEPS, STOP = 6, 4


def check_resume(trial: Trial) -> None:
    """Check that a training of 6 steps that is interrupted after 4 and resumed ends the same."""
    full = trial.trainer(STEPS)
    full.train()
    with TemporaryDirectory() as name:
        folder = Path(name)
        trial.trainer(STEPS, folder, STOP).train()
        checkpoint, _ = newest(folder)
        assert checkpoint is not None
        resumed = trial.trainer(STEPS, folder)
        resumed.restore(checkpoint)
        resumed.train()
    weights = resumed.model.state_dict()
    changed = [k for k, value in full.model.state_dict().items() if not same(value, weights[k])]
    promise(
        not changed,
        "a training that is resumed ends with the weights of one that was not interrupted:"
        f" {changed[:3]} differ, so state of the objective or of a part of the model is not saved",
    )
