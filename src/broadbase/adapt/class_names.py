"""Names of classes as words, and whether a base reads words."""

from __future__ import annotations

from typing import NamedTuple

from broadbase.adapt.reading import reader
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.nn.spaces.joint import JointConfig

PROSE = 'What is it? "A name", of a class.'  # what a modality of text reads, and no other


def plain_name(name: str) -> str:
    """Return the name of a class with spaces for _ and -."""
    return " ".join(name.replace("_", " ").replace("-", " ").split()) or name


def reads_text(base: Base, modality: str) -> bool:
    """Return whether a modality reads prose as it is; ConfigError where the base has none such."""
    try:
        return bool(reader(base, modality)(PROSE) == PROSE)
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        return False


def class_problem(field: str, given: object, names: tuple[str, ...]) -> str:
    """Say which of the given names is no class; empty where all are.

    `field` is the setting that has them, as a mapping by the name of a class.
    """
    for name in given if isinstance(given, dict) else ():
        if name not in names:
            listed = ", ".join(map(repr, names[:20]))
            return f"{field} has {name!r}, which is no class; the classes are {listed}"
    return ""


class TextSide(NamedTuple):
    """How a base of two towers compares records with texts: two heads of one joint space."""

    head: str  # of the records
    modality: str  # of the texts
    text_head: str


def text_side(base: Base, modality: str) -> TextSide | None:
    """Return how records of a modality are compared with texts; None where they are not.

    So it is in a base with one joint head for the records, and one in the tower of a text modality.
    """
    if (head := _joint_head(base, modality)) is None:
        return None
    for other in base.codecs:
        if base.tower(other) == base.tower(modality) or not reads_text(base, other):
            continue
        if (text_head := _joint_head(base, other)) is not None:
            return TextSide(head, other, text_head)
    return None


def _joint_head(base: Base, modality: str) -> str | None:
    """Return the joint head of a modality's tower; None where there is none, or several."""
    tower = base.tower(modality)
    heads = [
        name
        for name, head in base.config.heads.items()
        if isinstance(head, JointConfig) and base.tower(name) == tower
    ]
    return heads[0] if len(heads) == 1 else None
