"""Outputs that come token by token: a base's, and those of the 5-gram of its training data."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from broadbase.core.errors import DataError
from broadbase.inference.request import Prompt
from broadbase.inference.streaming import Streamed
from broadbase.studio.run_data import continued_by_gram
from broadbase.studio.trial import Events, Part, Token, Trial


async def streamed(trial: Trial) -> Events:
    """Stream what the base continues or answers, and then what its 5-gram continues."""
    continues = trial.base.usage.conditioning is None
    names = [trial.description.name]
    if continues:
        names.append("5-gram of its training data")
    lane = f"lane-{secrets.token_hex(4)}"
    begun = trial.record if continues and isinstance(trial.record, str) else ""
    yield Part("try_stream.html", {"names": names, "id": lane, "begun": begun})
    prompt = (
        Prompt(value=trial.record)
        if isinstance(trial.record, str) or trial.record is None
        else Prompt(attachments=(trial.record,))
    )
    target = None if not continues else trial.space

    def begin() -> Iterator[Streamed]:
        return trial.base.stream(
            prompt,
            modality=target,
            max_new_tokens=trial.what.max_new_tokens,
            sampling=trial.what.sampling,
        )

    steps = await trial.compute(begin)
    async for event in _lane(trial, 0, lane, lambda: trial.compute(next, steps, None)):
        yield event
    if continues:
        async for event in _baseline(trial, lane):
            yield event


async def _baseline(trial: Trial, lane: str) -> Events:
    """Stream what the 5-gram of the base's training rows continues, or say why there is none."""
    try:
        gram = await run_in_threadpool(trial.data.gram, trial.description, trial.space)
    except DataError as error:
        yield Part("try_note.html", {"words": f"No baseline: {error}."}, f"{lane}-1")
        return
    what = trial.what
    steps = continued_by_gram(
        gram, trial.base, trial.space, trial.record, what.sampling, what.max_new_tokens
    )
    async for event in _lane(trial, 1, lane, lambda: run_in_threadpool(next, steps, None)):
        yield event


async def _lane(trial: Trial, number: int, lane: str, step: Callable[[], Any]) -> Events:
    tokens = list[Streamed]()
    while (token := await step()) is not None:
        tokens.append(token)
        yield Token(number, token)
    yield Part("try_tokens.html", {"tokens": tokens}, f"{lane}-{number}-table")
    drawing = None
    if trial.kind == "molecule":
        smiles = (trial.record or "") + "".join(token.text for token in tokens)
        drawing = await run_in_threadpool(trial.files.molecule, smiles)
    values = {"ended": tokens[-1].ends, "count": len(tokens), "drawing": drawing}
    yield Part("try_ended.html", values, f"{lane}-{number}-end")
