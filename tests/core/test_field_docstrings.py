"""The docstrings of fields: every field of a config has one, and a printed config shows it."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import broadbase
from broadbase.core.config import Config, Slot
from broadbase.core.descriptions import descriptions, first_sentence
from broadbase.core.plugins import modules

PACKAGES = [m.name for m in pkgutil.iter_modules(broadbase.__path__) if m.ispkg]


class Oven(Config):
    """An oven."""

    heat: float = 200.0
    """The temperature, in degrees Celsius. 200 bakes
    most bread."""
    fan: bool = False
    rack: int = 1
    """The rack (from below), e.g. 1."""


class Small(Oven):
    """An oven for one loaf."""

    heat: float = 220.0
    """The temperature of a small oven."""


def test_docstrings_of_fields_are_read_and_inherited() -> None:
    assert descriptions(Oven) == {
        "heat": "The temperature, in degrees Celsius. 200 bakes\nmost bread.",
        "rack": "The rack (from below), e.g. 1.",
    }
    assert descriptions(Small)["heat"] == "The temperature of a small oven."
    assert descriptions(Small)["rack"] == descriptions(Oven)["rack"]


def test_the_first_sentence_is_a_comment() -> None:
    assert first_sentence(descriptions(Oven)["heat"]) == "The temperature, in degrees Celsius"
    assert (
        first_sentence("A rack (Li et al. 2020), e.g. 1. More.")
        == "A rack (Li et al. 2020), e.g. 1"
    )


def configs(package: str) -> Iterator[type[Config]]:
    for module in modules(f"broadbase.{package}"):
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Config) and cls.__module__ == module.__name__:
                yield cls


@pytest.mark.parametrize("package", PACKAGES)
def test_every_field_has_a_docstring(package: str) -> None:
    lacking = [
        f"{cls.__module__}.{cls.__name__}.{name}"
        for cls in configs(package)
        for name in cls.model_fields
        if name not in descriptions(cls) and not (name == "name" and issubclass(cls, Slot))
    ]
    assert not lacking
