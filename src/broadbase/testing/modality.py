"""The check of a modality: its codec, its part of the model, its corruption, and each objective.

Legend: B rows, N tokens, K channels, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from broadbase.core.codec import Codec, Sample
from broadbase.core.config import discover
from broadbase.core.contracts import ModalityConfig, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.testing.objective import check_pairing
from broadbase.testing.promise import promise, same
from broadbase.testing.resume import check_resume
from broadbase.testing.space import check_corruption, check_space
from broadbase.testing.trial import Trial

RoundTrip = Callable[[Any, Any], bool]


def check_modality(
    config: ModalityConfig,
    raws: Sequence[Any],
    *,
    bad: Iterable[Any] = (),
    round_trip: RoundTrip = same,
    objectives: Sequence[ObjectiveConfig] | None = None,
) -> None:
    """Check what a modality promises; BrokenPromiseError says in one sentence what does not hold.

    `raws` are four records or more, of equal extents where they are planes or volumes. `bad` are
    records that it must refuse, as it refuses `object()`. `round_trip(clean, decoded)` returns
    whether a decoded record is near enough to the record: by default it is equal in every bit, and
    a lossy codec says here how much it loses. `objectives` are trained on the records; by default
    all that take one source.
    """
    promise(
        type(config).from_tree(config.tree()) == config,
        f"settings are read back from their tree as they were: {config.tree()}",
    )
    _check_clean(config, raws)
    codec = config.fit(raws)
    for raw in raws:
        _check_sample(config, codec, raw)
        _check_round_trip(config, codec, raw, round_trip)
    _check_saved(config, codec, raws)
    for raw in (object(), *bad):
        _check_refused(config, codec, raw)
    trial = Trial.of({"records": (config, raws)}, ObjectiveConfig.named("causal")())
    check_space(trial)
    check_corruption(trial)
    _check_objectives(config, raws, objectives)


def _check_clean(config: ModalityConfig, raws: Sequence[Any]) -> None:
    for raw in raws:
        clean = config.clean(raw)
        promise(
            same(config.clean(clean), clean),
            f"clean is idempotent, and changes its own result of {_brief(raw)}",
        )
        shingles = config.shingles(clean)
        promise(
            all(isinstance(each, str) for each in shingles),
            "shingles are strings, which near duplicates share",
        )


def _check_sample(config: ModalityConfig, codec: Codec, raw: Any) -> None:
    sample, again = codec.encode(raw), codec.encode(raw)
    promise(same(sample, again), f"encode gives a record the same values every time: {_brief(raw)}")
    values, start = sample.values, np.asarray(codec.start)
    promise(
        values.ndim in (1, 2) and values.dtype.kind in "iuf",
        f"values are numbers [N] or vectors [N,K], not {values.dtype} {list(values.shape)}",
    )
    promise(
        1 <= len(sample.grid) <= 3 and math.prod(sample.grid) == len(values),
        f"the product of the grid {sample.grid} is the number of values, which is {len(values)}",
    )
    promise(
        bool(np.isfinite(values).all()), f"values are finite, and those of {_brief(raw)} are not"
    )
    promise(sample.units >= 1, f"units counts at least one {codec.unit!r}, not {sample.units}")
    for name, edge in (("start", start), ("end", codec.end)):
        promise(
            edge is None or np.shape(edge) == values.shape[1:],
            f"{name} of the codec has the shape of one value, {list(values.shape[1:])},"
            f" not {list(np.shape(edge))}"
            if edge is not None
            else "",
        )
    promise(
        np.can_cast(values.dtype, start.dtype, "same_kind"),
        f"start of the codec has the type of the values, {values.dtype}, not {start.dtype}",
    )
    parts = [codec.encode(part).values for part in config.chunks(config.clean(raw))]
    promise(
        same(np.concatenate(parts), values),
        f"the encodings of the chunks of a record in a row are its encoding: {_brief(raw)}",
    )


def _check_round_trip(
    config: ModalityConfig, codec: Codec, raw: Any, round_trip: RoundTrip
) -> None:
    sample: Sample = codec.encode(raw)
    clean, decoded = config.clean(raw), codec.decode(sample.values, sample.grid)
    promise(
        round_trip(clean, decoded),
        f"decode gives back the record, or what round_trip allows: {_brief(clean)} became"
        f" {_brief(decoded)}",
    )


def _check_saved(config: ModalityConfig, codec: Codec, raws: Sequence[Any]) -> None:
    with TemporaryDirectory() as name:
        codec.save(Path(name))
        loaded = config.load(Path(name))
    for raw in raws:
        sample, again = codec.encode(raw), loaded.encode(raw)
        promise(
            same(sample, again)
            and same(
                loaded.decode(sample.values, sample.grid), codec.decode(sample.values, sample.grid)
            ),
            f"load gives the codec that save wrote; it reads {_brief(raw)} in another way",
        )
    promise(
        same((loaded.start, loaded.end, loaded.unit), (codec.start, codec.end, codec.unit)),
        "load gives the codec that save wrote; its start, end or unit differ",
    )


def _check_refused(config: ModalityConfig, codec: Codec, raw: Any) -> None:
    try:
        codec.encode(config.clean(raw))
    except ValueError as error:
        promise(bool(str(error)), f"the error for {_brief(raw)} says what is expected")
    except Exception as error:
        promise(
            False,
            f"a bad record is refused with a ValueError, such as DataError; {_brief(raw)} raised"
            f" {type(error).__name__}: {error}",
        )
    else:
        promise(False, f"a bad record is refused with a ValueError, and {_brief(raw)} was taken")


def _check_objectives(
    config: ModalityConfig, raws: Sequence[Any], objectives: Sequence[ObjectiveConfig] | None
) -> None:
    sources = {"records": (config, raws)}
    chosen = list(_alone() if objectives is None else objectives)
    trained = []
    for objective in chosen:
        try:
            check_pairing(sources, objective, sees_targets=True)
        except ConfigError:
            continue
        trained.append(objective)
    promise(bool(trained) or not chosen, "some objective takes the modality, and all refused it")
    if trained:
        check_resume(Trial.of(sources, trained[0]))


def _alone() -> Iterable[ObjectiveConfig]:
    """Yield the objectives, with default settings, that take one source by itself."""
    discover("objectives")
    for name in ObjectiveConfig.choices:
        try:
            objective = ObjectiveConfig.named(name)()
            objective.check({"records": None})
        except ValueError:
            continue
        yield objective


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
