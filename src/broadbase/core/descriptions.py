"""What the fields of a config mean: the docstring that follows each field in its class.

They are read from the source when they are wanted. Pydantic's `use_attribute_docstrings` reads them
whenever a class is made, which costs every process 0.4 s for our 200 classes.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from textwrap import dedent

from broadbase.core.config import Config

SENTENCE_END = re.compile(r"(?<!\bal)(?<!\be\.g)(?<!\bi\.e)\. ")  # "et al. 2020" goes on


@cache
def descriptions(cls: type[Config]) -> Mapping[str, str]:
    """Return the docstring of each field of a config class by name, inherited ones too.

    A field without a docstring, and a class whose source is not there, has none.
    """
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Config):
            texts |= _own(base)
    return {name: texts[name] for name in cls.model_fields if name in texts}


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring in one line, without its full stop."""
    line = " ".join(text.split())
    end = SENTENCE_END.search(line)
    return (line[: end.start()] if end else line).removesuffix(".")


def _own(cls: type[Config]) -> dict[str, str]:
    try:
        body = ast.parse(dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, after in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    texts[field.target.id] = inspect.cleandoc(text)
    return texts
