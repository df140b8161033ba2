"""The command, or the line of Python, that does what a page did."""

from __future__ import annotations

import shlex
from typing import Any

from broadbase.studio.abilities import Ability
from broadbase.studio.bases import Description
from broadbase.studio.inputs import Given

GENERATED = {Ability.CONTINUE, Ability.ANSWER, Ability.TRANSCRIBE, Ability.DRAW}
METHODS = {
    Ability.FILL: "fill({text}, modality={space})",
    Ability.PROPERTIES: "predict_properties([{text}], modality={space})",
    Ability.EMBED: "embed([{text}], modality={space})",
}


def same_as(
    description: Description, ability: Ability, space: str, record: Any, what: Given
) -> tuple[str, str]:
    """Return what a command is, and the command: of the shell, or Python where none does it."""
    if ability in GENERATED:
        return "The same", shlex.join(_generate(description, ability, space, what))
    if ability in METHODS:
        # a file is read by Pillow, or by soundfile as (samples, rate)
        reader = "PIL.Image.open" if what.kind == "picture" else "soundfile.read"
        text = f"{reader}({what.file!r})" if what.file else repr(record)
        call = METHODS[ability].format(text=text, space=repr(space))
        return "The same in Python", f"broadbase.load({description.path!r}).{call}"
    measured = shlex.join(["broadbase", "evaluate", description.path])
    return "The same on all held-out records, measured", measured


def _generate(description: Description, ability: Ability, space: str, what: Given) -> list[str]:
    words = ["broadbase", "generate", description.path]
    if what.kind == "text":
        words += ["--prompt", what.record]
    elif what.kind in ("picture", "sound"):
        words += ["--image" if what.kind == "picture" else "--audio", what.file]
    if ability is Ability.CONTINUE and len(description.modalities) > 1:
        words += ["--modality", space]
    sampling = what.sampling
    words += ["--max-new-tokens", str(what.max_new_tokens)]
    words += ["--temperature", f"{sampling.temperature:g}", "--seed", str(sampling.seed)]
    words += [] if sampling.top_k is None else ["--top-k", str(sampling.top_k)]
    words += [] if sampling.top_p is None else ["--top-p", f"{sampling.top_p:g}"]
    return words
