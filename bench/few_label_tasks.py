"""Eight text tasks for few labels: those of the demo."""

from broadbase.demo.text_tasks import (
    COLLECTIONS,
    CONTAMINATED,
    PHRASES,
    UNNAMED,
    bias,
    genre,
    lines,
    limited,
    package,
    review,
    sentences,
    speciality,
    subject,
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
    "lines",
    "limited",
    "package",
    "review",
    "sentences",
    "speciality",
    "subject",
    "tasks",
    "where",
    "who",
]
