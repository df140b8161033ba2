"""What a base answers to what it is given: tokens as they are generated, and parts of a page.

Work of the model runs in the thread that computes, a token or a batch at a time, so that several
answers go on side by side and one that nobody waits for ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool

from broadbase.core.errors import BroadbaseError, DataError
from broadbase.evaluate.masked_image import reconstruct
from broadbase.inference.filling import GAP
from broadbase.inference.request import GenerateRequest, Prompt
from broadbase.modalities.descriptors import described
from broadbase.objectives.mae import MaskedAutoencoderConfig
from broadbase.objectives.mixture import MixtureConfig
from broadbase.run.config import RunConfig
from broadbase.run.records import HeldOut
from broadbase.studio.abilities import PICTURES, SOUNDS, Ability, joint_heads
from broadbase.studio.bases import Bases, Description
from broadbase.studio.commands import same_as
from broadbase.studio.inputs import Given, record_of, space_of
from broadbase.studio.run_data import (
    RunData,
    embedded,
    records_of,
)
from broadbase.studio.shown import Files, Shown
from broadbase.studio.streams import streamed
from broadbase.studio.trial import Events, Part, Trial

NEAREST = 5  # held-out records that are shown


async def answers(
    bases: Bases, description: Description, what: Given, data: RunData, files: Files
) -> Events:
    """Yield all that a base answers; BroadbaseError says what it cannot read."""
    space = space_of(description, what)
    base = await bases.get(description.name)
    record = record_of(description.modalities[space], what)
    trial = Trial(description, base, space, record, what, bases.worker, data, files)
    if trial.kind == "molecule" and isinstance(record, str):
        if drawing := await run_in_threadpool(files.molecule, record):
            yield Part("try_records.html", {"title": "The molecule", "records": [(drawing, "")]})
    elif what.kind == "picture":
        shown = await run_in_threadpool(files.picture, record, "the picture that was given")
        yield Part("try_records.html", {"title": "What it was given", "records": [(shown, "")]})
    for ability in _chosen(trial):
        async for event in HANDLERS[ability](trial):
            yield event
        lead, command = same_as(description, ability, space, record, what)
        yield Part("try_command.html", {"lead": lead, "command": command})


def _chosen(trial: Trial) -> list[Ability]:
    """Return what is done with the record: all that the base can, neighbours where it is little."""
    able = list(trial.description.abilities[trial.space])
    able.remove(Ability.EMBED)
    text = trial.record if isinstance(trial.record, str) else ""
    if trial.record is None:  # a beginning of nothing can be continued
        able = [a for a in able if a is Ability.CONTINUE]
        if not able:
            raise DataError("nothing is given; write a text, or choose a file")
        return able
    if Ability.FILL in able and GAP not in text:
        able.remove(Ability.FILL)
    return able if [a for a in able if a is not Ability.PROPERTIES] else [*able, Ability.EMBED]


async def _filled(trial: Trial) -> Events:
    gaps = await trial.compute(lambda: trial.base.fill(trial.record, modality=trial.space))
    parts = trial.record.split(GAP)
    best = "".join(
        part + (gaps[i][0].text if i < len(gaps) else "") for i, part in enumerate(parts)
    )
    yield Part("try_filled.html", {"gaps": gaps, "best": best})


async def _reconstructed(trial: Trial) -> Events:
    config, seed = _masked_config(trial.description), trial.what.sampling.seed
    made = await trial.compute(reconstruct, trial.base, config, trial.space, trial.record, seed)
    shown = [
        (trial.files.picture(made.picture, "as the base reads it"), ""),
        (trial.files.picture(made.masked, f"{config.mask_ratio:.0%} of the patches masked"), ""),
        (trial.files.picture(made.filled, "masked patches predicted"), ""),
    ]
    yield Part("try_records.html", {"title": "Masked and reconstructed", "records": shown})


def _masked_config(description: Description) -> MaskedAutoencoderConfig:
    assert description.run is not None  # the ability is read from the run's config
    objective = RunConfig.of_run(description.run).objective
    components = objective.components.values() if isinstance(objective, MixtureConfig) else ()
    for config in (objective, *(each.objective for each in components)):
        if isinstance(config, MaskedAutoencoderConfig):
            return config
    raise DataError("its run does not reconstruct")


async def _ranked(trial: Trial) -> Events:
    """Rank names, or held-out records of the other side, for the record."""
    joints = joint_heads(trial.base.config)
    own = next(head for head, space in joints.items() if space == trial.space)
    for head, space in joints.items():
        if head == own:
            continue
        kind = trial.description.modalities[space]
        names = trial.what.names if kind not in PICTURES | SOUNDS else ()
        try:
            others: Sequence[str | HeldOut] = names or await run_in_threadpool(
                records_of, trial.description, space
            )
        except DataError as error:
            yield Part("try_note.html", {"words": f"Give names to rank, one a line: {error}."})
            continue

        def logits(head: str = head, space: str = space, others: Any = others) -> Any:
            raws = [each.sample if isinstance(each, HeldOut) else each for each in others]
            one = trial.base.embed_joint([trial.record], own, modality=trial.space)
            return (one @ trial.base.embed_joint(raws, head, modality=space).T)[0]

        scores = await trial.compute(logits)
        shares = scores.softmax(dim=-1)
        best = scores.argsort(descending=True)[: 2 * NEAREST].tolist()
        records = [
            (
                _shown(trial, kind, others[i]),
                f"{float(shares[i]):.3f}, logit {float(scores[i]):.2f}",
            )
            for i in best
        ]
        source = "the names given" if names else f"{len(others)} held-out records of its run"
        title = f"Ranked among {source}: probability among them, and logit"
        yield Part("try_records.html", {"title": title, "records": records, "ordered": True})


async def _drawn(trial: Trial) -> Events:
    request = GenerateRequest(
        prompts=(Prompt(value=trial.record),),
        max_new_tokens=trial.what.max_new_tokens,
        sampling=trial.what.sampling,
    )
    (made,) = await trial.compute(trial.base.generate_request, request)
    shown = trial.files.record("image", made)
    yield Part("try_records.html", {"title": "Drawn", "records": [(shown, "")]})


async def _properties(trial: Trial) -> Events:
    predicted = await trial.compute(
        lambda: trial.base.predict_properties([trial.record], modality=trial.space)
    )
    config = trial.base.config
    describing = [n for n, m in config.modalities.items() if m.describes == trial.kind]
    if predicted is None or len(describing) != 1:
        return
    named = trial.base.codecs[describing[0]].decode(predicted[:1], (1,))
    try:
        right = dict(zip(named, described(trial.record), strict=True))
    except (ValueError, BroadbaseError):
        right = dict[str, float]()
    rows = [(name, value, right.get(name)) for name, value in named.items()]
    yield Part("try_properties.html", {"rows": rows})


async def _nearest(trial: Trial) -> Events:
    """Show the held-out records of the run whose vectors are nearest by cosine."""
    able = trial.description.abilities[trial.space]
    if Ability.FILL in able:
        yield Part("try_note.html", {"words": f"It fills a gap where you write {GAP}."})
    vector = await trial.compute(embedded, trial.base, [trial.record], trial.space)
    try:
        records, vectors = await trial.data.held_out(
            trial.description, trial.base, trial.space, trial.worker
        )
    except DataError as error:
        yield Part("try_vector.html", {"size": vector.shape[1], "vector": vector[0][:8],
                                       "words": str(error)})  # fmt: skip
        return
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosine = unit @ (vector[0] / max(float(np.linalg.norm(vector[0])), 1e-12))
    shown = [
        (_shown(trial, trial.kind, records[i]), f"cosine {cosine[i]:.3f}")
        for i in np.argsort(-cosine)[:NEAREST]
    ]
    title = f"Nearest of {len(records)} held-out records of its run"
    yield Part("try_records.html", {"title": title, "records": shown, "ordered": True})


def _shown(trial: Trial, kind: str, record: HeldOut | str) -> Shown:
    if isinstance(record, str):
        return Shown(record)
    modality = next(m for m in trial.base.config.modalities.values() if m.name == kind)
    return trial.files.record(kind, record.raw, getattr(modality, "rate", 16_000))


HANDLERS: Mapping[Ability, Callable[[Trial], Events]] = {
    Ability.CONTINUE: streamed,
    Ability.ANSWER: streamed,
    Ability.TRANSCRIBE: streamed,
    Ability.DRAW: _drawn,
    Ability.FILL: _filled,
    Ability.RECONSTRUCT: _reconstructed,
    Ability.RETRIEVE: _ranked,
    Ability.PROPERTIES: _properties,
    Ability.EMBED: _nearest,
}
