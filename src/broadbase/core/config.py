"""Typed, frozen settings: unknown keys are errors with a hint, and a slot is filled by name.

A component keeps its Config beside it. A *slot* (a norm, a modality, an objective) is a Choice: a
family of configs told apart by `name`. A name is looked up among the classes of the slot's package
and of those from outside (`core/outside.py`).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from broadbase.core.errors import ConfigError
from broadbase.core.outside import outside


class Config(BaseModel):
    """Base of all settings: frozen, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def tree(self) -> dict[str, Any]:
        """The settings as plain dicts, lists, numbers and strings."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def yaml(self) -> str:
        """The settings as YAML text that `from_tree(yaml.safe_load(text))` reads back."""
        return yaml.safe_dump(self.tree(), sort_keys=False)

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Self:
        """Settings from plain dicts; ConfigError names each bad field and the nearest good one."""
        try:
            return cls.model_validate(dict(tree))
        except ValidationError as error:
            raise ConfigError(_explain(cls, tree, error)) from None


class Choice(Config):
    """A slot: subclass it once for the slot (`package`), then once for each choice (`name`)."""

    package: ClassVar[str]
    choices: ClassVar[dict[str, type[Choice]]]
    name: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.is_slot():
            cls.choices = {}
        else:
            name = cls.__annotations__.get("name") and cls.__dict__.get("name")
            if isinstance(name, str):
                cls.choices[name] = cls

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, value: Any, handler: Any) -> Any:
        if not isinstance(value, Mapping) or not cls.is_slot():
            return handler(value)
        chosen = cls.named(str(value.get("name", "")))
        return chosen.model_validate(value)

    @classmethod
    def is_slot(cls) -> bool:
        """Whether this is the slot itself and not one of its choices."""
        return Choice in cls.__bases__

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """The class of this slot with that name; ValueError lists what there is."""
        if name not in cls.choices:
            discover(cls.package)
        if name not in cls.choices:
            known = sorted(cls.choices)
            raise ValueError(f"no {_kind(cls)} is called {name!r}{hint(name, known)}")
        return cls.choices[name]  # type: ignore[return-value]


@cache
def discover(package: str) -> None:
    """Import every module of broadbase.<package>, and what comes from outside."""
    root = importlib.import_module(f"broadbase.{package}")
    for module in pkgutil.walk_packages(root.__path__, f"broadbase.{package}."):
        importlib.import_module(module.name)
    outside(package)  # classes register themselves


def hint(word: str, known: Iterable[str], prefix: str = "") -> str:
    """'; did you mean `x`?' where something known is near, otherwise the known words."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    initials = "".join(part[:1] for part in word.split("_"))  # learning_rate is lr
    near = near or [k for k in known if k == initials or word.endswith(k) or k.endswith(word)]
    return f"; did you mean `{prefix}{near[0]}`?" if near else f"; known: {', '.join(known)}"


def override(tree: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """A copy of a config tree with one `a.b=value` applied; the value is read as YAML."""
    path, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {setting!r} has no '='; write --set path.to.field=value")
    *parents, last = path.strip().split(".")
    copy: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(tree), sort_keys=False))
    node: Any = copy
    for depth, key in enumerate([*parents, last]):
        here = ".".join([*parents, last][:depth])
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            key = int(key)  # type: ignore[assignment]
        elif not isinstance(node, dict) or (node and key not in node):
            known = list(node) if isinstance(node, dict) else []
            prefix = f"{here}." if here else ""
            raise ConfigError(f"unknown field `{prefix}{key}`{hint(key, known, prefix)}")
        if depth < len(parents):
            node[key] = {} if node[key] is None else node[key]  # an empty slot takes any field
            node = node[key]
        else:
            node[key] = _scalar(text)
    return copy


def _scalar(text: str) -> Any:
    if text in ("on", "off", "yes", "no"):  # YAML 1.1 reads booleans
        return text
    try:  # YAML 1.1 reads 3e-4 as a string
        return float(text) if "e" in text.lower() else yaml.safe_load(text)
    except ValueError:
        return yaml.safe_load(text)


def _kind(cls: type[Choice]) -> str:
    return cls.__name__.removesuffix("Config").lower()


def _explain(cls: type[Config], tree: Mapping[str, Any], error: ValidationError) -> str:
    return "\n".join(_line(cls, tree, e) for e in error.errors())


def _line(cls: type[Config], tree: Mapping[str, Any], error: ErrorDetails) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        *parents, last = error["loc"]
        known = _fields(cls, tree, parents)
        prefix = "".join(f"{parent}." for parent in parents)
        return f"unknown field `{path}`{hint(str(last), known, prefix)}"
    message = error["msg"].removeprefix("Value error, ")
    return f"`{path}`: {message} (got {error['input']!r})" if path else message


def _fields(cls: Any, tree: Any, parents: Iterable[Any]) -> list[str]:
    """The fields that the class at `parents` has, following slots to the choice the tree names."""
    for parent in parents:
        if isinstance(cls, type) and issubclass(cls, Config):
            cls = cls.model_fields[str(parent)].annotation
        else:  # a dict's or a list's own key: the value type stands last
            cls = get_args(cls)[-1]
        tree = tree[parent]
        if get_origin(cls) in (Union, UnionType):  # of X or nothing: X
            cls = next(option for option in get_args(cls) if option is not NoneType)
        if isinstance(cls, type) and issubclass(cls, Choice) and cls.is_slot():
            cls = cls.named(str(tree.get("name", "")))
    return list(cls.model_fields)
