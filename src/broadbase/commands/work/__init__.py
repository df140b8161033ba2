"""The work of the commands; a module of it, and all that it needs, is imported when it is used."""

from typing import TYPE_CHECKING

from broadbase.core.lazy import submodules

if TYPE_CHECKING:
    from broadbase.commands.work import (
        adapt,
        cache,
        critique,
        data,
        demo,
        doctor,
        doubts,
        evaluate,
        exchange,
        generate,
        index,
        inspect,
        labelled_data,
        predict,
        recipes,
        report,
        search,
        serve,
        studio,
        suggest,
        train,
    )
else:
    __getattr__ = submodules(__name__)

__all__ = [
    "adapt",
    "cache",
    "critique",
    "data",
    "demo",
    "doctor",
    "doubts",
    "evaluate",
    "exchange",
    "generate",
    "index",
    "inspect",
    "labelled_data",
    "predict",
    "recipes",
    "report",
    "search",
    "serve",
    "studio",
    "suggest",
    "train",
]
