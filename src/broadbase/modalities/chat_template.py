"""Chat templates: how a base writes a conversation, in Jinja, as transformers reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Template, TemplateError
from jinja2.ext import Extension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from broadbase.core.errors import ConfigError
from broadbase.modalities.special import roles, tree_of

FILE, CONFIG, FIELD = "chat_template.jinja", "tokenizer_config.json", "chat_template"
MAP = "special_tokens_map.json"
READ = (FILE, CONFIG, MAP)  # the files of a folder that say how chats are written


class Generation(Extension):
    """The tag {% generation %}, with which some templates mark answers: what is in it is written.

    Which tokens are an answer's follows from what the template writes without it.
    """

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]

    def parse(self, parser: Parser) -> list[Node]:
        """Return what is between the tag and its end."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@dataclass(frozen=True)
class ChatTemplate:
    """A template with the special tokens that it names."""

    text: str
    special: Mapping[str, str] = field(default_factory=dict)  # "bos_token" -> how it is spelled

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> ChatTemplate | None:
        """Return the template of a folder's files, given by name; None if there is none.

        It is in a file of its own, or in the tokenizer's settings; of several there, the default.
        """
        given: Any = tree_of(files, CONFIG).get(FIELD)
        if FILE in files:
            given = files[FILE].decode(errors="replace")
        if isinstance(given, list):
            named = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}
            given = named.get("default")
        return cls(given, roles(files)) if isinstance(given, str) else None

    @classmethod
    def of_folder(cls, folder: Path) -> ChatTemplate | None:
        """Return the template in a folder; None if there is none."""
        paths = {name: folder / name for name in READ}
        return cls.of_files({n: path.read_bytes() for n, path in paths.items() if path.exists()})

    def save(self, folder: Path) -> None:
        """Write the template, and the special tokens that it names."""
        (folder / FILE).write_text(self.text)
        (folder / MAP).write_text(json.dumps(dict(self.special)))

    def render(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool) -> str:
        """Return a chat as the template writes it; a `prompt` goes up to where the answer begins.

        The names and filters are those that transformers gives a template. ConfigError if it
        refuses the chat, or is no template.
        """
        try:
            return self._compiled.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=prompt,
                **self.special,
            )
        except (
            *(TemplateError, TypeError, ValueError),
            *(KeyError, AttributeError, OverflowError),
        ) as error:
            raise ConfigError(f"messages: the chat template refuses them: {error}") from None

    @cached_property
    def _compiled(self) -> Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", Generation],
        )
        environment.filters["tojson"] = _json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(self.text)


def _json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def _refuse(message: str) -> None:
    raise TemplateError(message)
