"""Typed, frozen settings: unknown keys are errors with a hint, and a slot is filled by name.

A component keeps its Config in its file. A *slot* (a norm, a modality, an objective) is a Slot: a
family of configs that differ in `name`. A name is looked up among the classes of the slot's package
and of those from outside (`core/plugins.py`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import cache
from inspect import isabstract
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from broadbase.core.errors import ConfigError
from broadbase.core.plugins import modules, plugins
from broadbase.core.trees import RefusedError, brief, check_plain, parsed

MOST_LINES = 4  # of a message: each names one field


class Config(BaseModel):
    """Base of all settings: frozen, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def tree(self) -> dict[str, Any]:
        """Return the settings as plain dicts, lists, numbers and strings."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def yaml(self) -> str:
        """Return the settings as YAML text that `from_tree(yaml.safe_load(text))` reads back."""
        return yaml.safe_dump(self.tree(), sort_keys=False)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed; ConfigError names the bad field.

        The copy is validated as a new config is, unlike one of pydantic's `model_copy`.
        """
        kept = {name: getattr(self, name) for name in self.model_fields_set - changes.keys()}
        try:
            return type(self).model_validate(kept | changes)
        except ValidationError as error:
            raise ConfigError(_explain(type(self), changes, "", error)) from None

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], at: str = "") -> Self:
        """Return the settings in plain dicts; ConfigError names bad fields and the nearest good.

        `at` is the path of the tree in a larger one, which errors name: "model".
        """
        check_plain(tree, at)
        try:
            return cls.model_validate(dict(tree))
        except ValidationError as error:
            raise ConfigError(_explain(cls, tree, at, error)) from None


class Slot(Config):
    """A slot: subclass it once for the slot (`package`), then once for each choice (`name`)."""

    package: ClassVar[str]
    choices: ClassVar[dict[str, type[Slot]]]
    """The classes of a slot by name."""
    incomplete: ClassVar[dict[str, type[Slot]]]
    """The classes of a slot, by name, that lack a method; none of them is a choice."""
    name: str = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Enter a subclass with a name among the choices of its slot, unless it is abstract."""
        super().__pydantic_init_subclass__(**kwargs)
        if cls.is_slot():
            cls.choices, cls.incomplete = {}, {}
        elif "name" in cls.__annotations__:
            name = cls.model_fields["name"].default
            if isinstance(name, str) and isabstract(cls):
                cls.incomplete[name] = cls
            elif isinstance(name, str):
                _must_be_free(name, cls, cls.choices.get(name))
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
        return Slot in cls.__bases__

    @classmethod
    def named(cls, name: str) -> type[Self]:
        """Return the class of this slot with that name.

        ValueError lists the names, or the methods that the class does not define.
        """
        if name not in cls.choices:
            discover(cls.package)
        if name not in cls.choices and name in cls.incomplete:
            lacking = cls.incomplete[name]
            members = ", ".join(f"`{member}`" for member in sorted(lacking.__abstractmethods__))
            raise ValueError(
                f"{lacking.__module__}.{lacking.__qualname__} is called {brief(name)} but lacks"
                f" {members}; define what it lacks"
            )
        if name not in cls.choices:
            raise ValueError(f"no {_kind(cls)} is called {brief(name)}{hint(name, cls.choices)}")
        return cls.choices[name]  # type: ignore[return-value]


def _must_be_free(name: str, cls: type[Slot], other: type[Slot] | None) -> None:
    """Raise ConfigError where another class has this name in the slot; a reload replaces itself."""
    names = [f"{c.__module__}.{c.__qualname__}" for c in (cls, other) if c is not None]
    if len(set(names)) > 1:
        raise ConfigError(
            f"{names[0]} and {names[1]} are both called {name!r} in one slot; give one of them"
            " another `name`"
        )


@cache
def discover(package: str) -> None:
    """Import every module of broadbase.<package>, and what comes from outside."""
    for _ in modules(f"broadbase.{package}"):
        pass  # classes register themselves
    plugins(package)


def hint(word: str, names: Iterable[str], prefix: str = "") -> str:
    """Return '; did you mean `x`?' where one of the names is near, otherwise all of them."""
    names = sorted(names)
    near = difflib.get_close_matches(word[:100], names, n=1, cutoff=0.5)
    initials = "".join(part[:1] for part in word.split("_"))  # learning_rate is lr
    near = near or [k for k in names if k == initials or word.endswith(k) or k.endswith(word)]
    if near:
        return f"; did you mean `{prefix}{near[0]}`?"
    return f"; known: {_cut(', '.join(names), 300)}" if names else ""


def override(tree: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """Copy a config tree with one `a.b=value` applied; the value is read as YAML.

    A value that is no YAML is taken as text, as **/*.gz is.
    """
    path, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {brief(setting)} has no '='; write --set path.to.field=value")
    *parents, last = path.strip().split(".")
    copy = deepcopy(dict(tree))
    node: Any = copy
    for depth, key in enumerate([*parents, last]):
        here = ".".join([*parents, last][:depth])
        if isinstance(node, list) and key.isdecimal() and int(key[:9]) < len(node):
            key = int(key)  # type: ignore[assignment]
        elif not isinstance(node, dict) or (node and key not in node):
            fields = list(node) if isinstance(node, dict) else []
            prefix = f"{here}." if here else ""
            alone = fields == ["name"] and isinstance(node, dict)
            remedy = f"; {node['name']!r} has no settings" if alone else hint(key, fields, prefix)
            raise ConfigError(
                f"unknown field `{_cut(prefix + key)}`{remedy}"
                if isinstance(node, dict)
                else f"`{_cut(here)}` has no field {brief(key)}: it holds {brief(node)}"
            )
        if depth < len(parents):
            node[key] = {} if node[key] is None else node[key]  # an empty slot takes any field
            node = node[key]
        else:
            value = _scalar(text)
            # a template such as "{text} label:" is YAML of a mapping, and meant as text
            is_text = isinstance(node.get(key) if isinstance(node, dict) else node[key], str)
            node[key] = text if is_text and isinstance(value, dict) else value
    return copy


def _scalar(text: str) -> Any:
    if text in ("on", "off", "yes", "no"):  # YAML 1.1 reads booleans
        return text
    with suppress(ValueError):  # YAML 1.1 reads 3e-4 as a string
        if re.fullmatch(r"[-+]?[0-9][0-9_.]*[eE][-+]?[0-9]+", text.strip()):
            return float(text)
    try:
        return parsed(text)
    except RefusedError as error:
        raise ConfigError(f"--set: {brief(text)}: {error}") from None
    except ValueError:
        return text


def _kind(cls: type[Slot]) -> str:
    return cls.__name__.removesuffix("Config").lower()


def _cut(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def _explain(cls: type[Config], tree: Mapping[str, Any], at: str, error: ValidationError) -> str:
    errors = error.errors()
    inner = [e for e in errors if not any(_within(other["loc"], e["loc"]) for other in errors)]
    lines = [_line(cls, tree, at, e) for e in inner[:MOST_LINES]]
    more = [f"and {len(inner) - MOST_LINES} more"] if len(inner) > MOST_LINES else []
    return _cut("\n".join([*lines, *more]), 600)


def _within(inner: tuple[Any, ...], outer: tuple[Any, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _line(cls: type[Config], tree: Mapping[str, Any], at: str, error: ErrorDetails) -> str:
    above = [at] if at else []
    path = _cut(".".join(str(part) for part in (*above, *error["loc"])))
    if error["type"] == "extra_forbidden":
        *parents, last = error["loc"]
        owner = _owner(cls, tree, parents)
        prefix = "".join(f"{parent}." for parent in (*above, *parents))
        return f"unknown field `{path}`{_remedy(owner, str(last), prefix)}"
    message = error["msg"].removeprefix("Value error, ")
    message = _cut(message, 400)
    return f"`{path}`: {message} (got {brief(error['input'])})" if path else message


def _remedy(owner: type[Config] | None, field: str, prefix: str) -> str:
    """Return what to write in place of a field that a class does not have."""
    name = owner.model_fields["name"].default if owner and issubclass(owner, Slot) else None
    if owner is None or not issubclass(owner, Slot) or not isinstance(name, str):
        return hint(field, owner.model_fields if owner else (), prefix)
    if any(field in other.model_fields for other in owner.choices.values()) and prefix:
        slot = prefix.rstrip(".")
        return f": {name!r} lacks it; replace the whole slot: --set '{slot}={{name: {name}}}'"
    settings = [each for each in owner.model_fields if each != "name"]
    return hint(field, settings, prefix) if settings else f"; {name!r} has no settings"


def _owner(cls: Any, tree: Any, parents: Iterable[Any]) -> type[Config] | None:
    """Return the class at `parents`, following slots to the choice that the tree names.

    None where the path leads nowhere.
    """
    cls = _choice(cls, tree)
    for parent in parents:
        if isinstance(cls, type) and issubclass(cls, Config):
            field = cls.model_fields.get(str(parent))
            cls = field.annotation if field else None
        else:  # a dict's or a list's own key: the value type stands last
            cls = next((each for each in reversed(get_args(cls)) if each is not Ellipsis), None)
        inside = isinstance(tree, Mapping) and parent in tree
        inside = inside or (isinstance(tree, list | tuple) and isinstance(parent, int))
        tree = tree[parent] if inside else None
        if get_origin(cls) in (Union, UnionType):  # of X or nothing: X
            cls = next(option for option in get_args(cls) if option is not NoneType)
        if get_origin(cls) is Annotated:
            cls = get_args(cls)[0]
        cls = _choice(cls, tree)
    return cls if isinstance(cls, type) and issubclass(cls, Config) else None


def _choice(cls: Any, tree: Any) -> Any:
    """Return the choice that a tree names where `cls` is a slot, otherwise `cls`."""
    if isinstance(cls, type) and issubclass(cls, Slot) and cls.is_slot():
        return cls.named(str(tree.get("name", "") if isinstance(tree, Mapping) else ""))
    return cls
