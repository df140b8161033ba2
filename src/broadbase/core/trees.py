"""Settings that come from outside as YAML: small, plain, and each key once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from broadbase.core.errors import ConfigError

MOST_BYTES, MOST_NODES, DEEPEST = 1 << 20, 50_000, 50
LARGEST = 2**63 - 1


class RefusedError(ValueError):
    """YAML that could be read, and that no settings need."""


def read_tree(path: Path, what: str) -> dict[str, Any]:
    """Read the mapping in a YAML file; ConfigError names the file, the line and what is wrong.

    `what` says what the file should hold, as "a config".
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a file; give the file that holds {what}")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path} cannot be read: {reason}") from None
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path} has more than {MOST_BYTES >> 20} MiB, which {what} never has")
    try:
        text = content.decode(
            "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        )
    except UnicodeDecodeError as error:
        at = f"byte {error.start} (0x{content[error.start]:02x})"
        raise ConfigError(
            f"{path} is not UTF-8 at {at}; convert it: iconv -f latin1 -t utf-8 {path}"
        ) from None
    try:
        tree = parsed(text)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(tree, dict):
        kind = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise ConfigError(f"{path} holds {kind}, not {what}, which is a mapping of names to values")
    return tree


def parsed(text: str | bytes) -> Any:
    """Parse YAML; ValueError says what is wrong, and where.

    It refuses a key that occurs twice, nesting deeper than 50 levels, more than 50,000 values
    (aliases counted as often as they are used), and tags of Python objects.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{error.problem or error.context}{at}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def check_plain(tree: Any, path: str = "") -> None:
    """ConfigError where a number has more than 64 bits, or a text can be no name of a file."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            check_plain(str(key), path)
            check_plain(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, Sequence) and not isinstance(tree, str | bytes):
        for i, value in enumerate(tree):
            check_plain(value, f"{path}.{i}" if path else str(i))
    elif isinstance(tree, int) and abs(tree) > LARGEST:
        raise ConfigError(f"`{path}`: the number is larger than 2**63 - 1")
    elif isinstance(tree, str):
        try:
            writable = "\0" not in os.fsdecode(os.fsencode(tree))
        except UnicodeError:
            writable = False
        if not writable:
            raise ConfigError(f"`{path}`: {brief(tree)} holds a character that no text has")


def brief(value: object, most: int = 80) -> str:
    """Write the value as Python does, without its middle where it is long."""
    text = repr(value[: 2 * most] if isinstance(value, str | bytes) else value)
    return text if len(text) <= most else f"{text[: most - 20]} ... {text[-10:]}"


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[yaml.Node, tuple[int, int]] = {}  # values inside, and levels

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            self._refuse(f"nested deeper than {DEEPEST} levels")
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and node not in self._sizes:
            self._refuse("an alias of what it stands in")
        if node is not None and not alias:
            self._sizes[node] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> tuple[int, int]:
        inside = [] if isinstance(node, yaml.ScalarNode) else list(node.value)
        if isinstance(node, yaml.MappingNode):
            inside = [each for pair in inside for each in pair]
        sizes = [self._sizes[each] for each in inside]
        values, levels = 1 + sum(v for v, _ in sizes), 1 + max((n for _, n in sizes), default=0)
        if values > MOST_NODES:
            self._refuse(f"more than {MOST_NODES:,} values, aliases included")
        if levels > DEEPEST:
            self._refuse(f"nested deeper than {DEEPEST} levels")
        return values, levels

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name and name in seen and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                raise RefusedError(
                    f"the key {brief(key.value)} is given twice, at line {line} again"
                )
            seen.add(name)
        return super().construct_mapping(node, deep)

    def _refuse(self, problem: str) -> None:
        raise RefusedError(f"{problem} at line {self.get_mark().line + 1}")
