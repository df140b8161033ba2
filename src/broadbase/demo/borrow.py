"""Act two: published bases next to ours, random init and hand-made features, with few labels.

Fixed before the first measurement: the eight text tasks of demo/text_tasks.py and the letters A to
Z, spoken in 14 languages; 0, 2, 5, 10 and 20 labels of each class (letters: 2, 5 and 10, or as
many as there are); 5 splits of up to 200 held-out records.

- The published base is judged by one method: `names` without labels, `centroids` with labels and
  the pool for texts, `probe` for sounds. The tables also have its `probe` on texts.
- Whatever it is compared with is taken at its best: the method with the best mean on the tested
  records of a task. Hand-made features: TF-IDF of characters and of words, LSA fitted with the
  pool, LSA centroids with the pool; log-mel and MFCC of sounds.
- Random init is that of the network of the published base, of one seed.
- Our base reads the lines of `package` as code, and no sound.
- What MiniLM has seen of a task is marked (CONTAMINATED). Rows that it loses stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from broadbase.adapt.few_labels import LABELS, measured, thinned
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.progress import Progress
from broadbase.adapt.reading import reader
from broadbase.adapt.task_data import read_task
from broadbase.core.errors import DataError, ResourceError
from broadbase.data.samples.sets import SAMPLES
from broadbase.demo import flop
from broadbase.demo.make import Made
from broadbase.demo.text_tasks import names_of, tasks
from broadbase.evidence.few_labels import FEATURES, OWN, PUBLISHED, RANDOM, FewLabels
from broadbase.inference.base import Base
from broadbase.weights.folder import load

TEXT, SOUND = "sample:minilm", "sample:whisper_tiny_en"
SPLITS, TEST, MOST = 5, 200, 400
SHOWN = 5  # labels of each class in the headline
SOUND_LABELS = (2, 5, 10)
NAMES, TEXT_METHOD, SOUND_METHOD = "names", "centroids", "probe"


@dataclass(frozen=True)
class Borrowed:
    """The scores of the published bases and of what they are compared with."""

    text: Sequence[FewLabels]
    sound: Sequence[FewLabels]  # empty where the sounds cannot be had
    flop: Mapping[str, float]  # of pretraining, by model of the text tasks


def borrow(made: Made, console: Console, quick: bool) -> Borrowed:
    """Measure published bases on texts and sounds; `quick` takes two tasks and two splits."""
    base, progress = load(TEXT), Progress(console)
    bases = {PUBLISHED: base, OWN: made.base, RANDOM: base.reinitialised(0)}
    rows = list[FewLabels]()
    for task in tasks():
        if quick and task.name not in ("who", "bias"):
            continue
        modalities = {OWN: "code"} if task.name == "package" else {}
        needed = 2 * LABELS[-1] * len(task.target.names)
        those = list(
            measured(
                bases,
                thinned(task, max(MOST, needed)),
                2 if quick else SPLITS,
                TEST,
                names=names_of(task.name),
                modalities=modalities,
                progress=progress,
            )
        )
        rows += those
        _say(those, TEXT_METHOD, console)
    spent = {RANDOM: 0.0, OWN: flop.trained(made.base, made.tokens)}
    spent[PUBLISHED] = sum(flop.minilm(base).values())
    return Borrowed(rows, [] if quick else _letters(console, progress), spent)


def _letters(console: Console, progress: Progress) -> list[FewLabels]:
    """Measure spoken letters, languages apart; none where Debian's packages cannot be had."""
    base = load(SOUND)
    try:
        source = SAMPLES["letters"].source
        task = read_task("letters", "audio", source, read=reader(base, "audio"))
    except (DataError, ResourceError) as error:
        console.print(f"  spoken letters are left out: {error}")
        return []
    bases: dict[str, Base] = {PUBLISHED: base, RANDOM: base.reinitialised(0)}
    methods = (ProbeConfig(),)
    how = {"labels": SOUND_LABELS, "methods": methods, "progress": progress}
    rows = list(measured(bases, task, SPLITS, TEST, **how))  # type: ignore[arg-type]
    _say(rows, SOUND_METHOD, console)
    return rows


def _say(rows: Sequence[FewLabels], method: str, console: Console) -> None:
    """Print a line of a task's scores."""
    row = next(row for row in rows if row.labels == SHOWN)
    others = (f"{model} {row.best(model).mean:.2f}" for model in row.scores if model != PUBLISHED)
    mean = float(np.mean(row.of(PUBLISHED, method).scores))
    assert FEATURES in row.scores
    console.print(f"  {row.task:<10}  {PUBLISHED} {mean:.2f}, {', '.join(others)}")
