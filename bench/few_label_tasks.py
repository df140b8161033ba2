"""Eight text tasks for few labels: those of the demo."""

from broadbase.demo.tasks import genre, package, subject
from broadbase.demo.text_tasks import (
    COLLECTIONS,
    CONTAMINATED,
    PHRASES,
    UNNAMED,
    bias,
    limited,
    lines,
    review,
    sentences,
    speciality,
    tasks,
    where,
    who,
)

__all__ = [
    "COLLECTIONS",
    "CONTAMINATED",
    "PHRASES",
    "UNNAMED",
    "bias",
    "genre",
    "limited",
    "lines",
    "package",
    "review",
    "sentences",
    "speciality",
    "subject",
    "tasks",
    "where",
    "who",
]
