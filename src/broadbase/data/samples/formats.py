"""Formats that only packaged sets come in."""

from __future__ import annotations

import binascii
import email
import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from html.parser import HTMLParser
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from broadbase.core.sources import Record, Reject
from broadbase.data.sources.compressed import opened
from broadbase.data.sources.files import FilesConfig


class TaggedTextConfig(FilesConfig):
    """Tagged words (Brown): word/tag, tags left out; the label is the category, a letter."""

    name: Literal["tagged_text"] = "tagged_text"
    pattern: str = "c[a-r][0-9][0-9]"

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        text = path.read_text(encoding="latin-1")
        words = " ".join(word.rpartition("/")[0] for word in text.split())
        yield Record(re.sub(r" ([.,;:?!])(?= |$)", r"\1", words), str(path), path.name[1])


class IdxImagesConfig(FilesConfig):
    """Pictures in the IDX format of MNIST, with the labels of the file next to them."""

    name: Literal["idx"] = "idx"
    pattern: str = "*images-idx3-ubyte.gz"

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        labels_path = UPath(str(path).replace("images-idx3", "labels-idx1"))
        try:
            images, labels = _idx(path, 3), _idx(labels_path, 1)
        except ValueError as error:
            yield Reject(str(path), f"it or {labels_path.name} is no IDX file of bytes: {error}")
            return
        if len(images) != len(labels):
            yield Reject(str(path), f"{len(images)} pictures, but {len(labels)} labels")
            return
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield Record(image, f"{path}:{i}", str(label))


class MailConfig(FilesConfig):
    """E-mails: subject and text, no other header; the label is the one its folder's name holds."""

    name: Literal["mail"] = "mail"
    pattern: str = "**/*.eml"
    labels: tuple[str, ...] = ()
    """The labels, tried in this order: the first that the name of the folder holds."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        mail = email.message_from_bytes(path.read_bytes())
        text = f"{_subject(mail)}\n\n{_body(mail)}".strip()
        label = next((label for label in self.labels if label in path.parent.name), None)
        if text:
            yield Record(text, str(path), label)
        else:
            yield Reject(str(path), "a mail without subject and text", empty=True)


def _idx(path: UPath, axes: int) -> NDArray[np.uint8]:
    """Return an array of bytes: 0, 0, 8 (the type), the number of axes, every extent in 4 bytes."""
    with opened(path) as file:
        data = file.read()
    if data[:4] != bytes((0, 0, 8, axes)):
        raise ValueError(f"{path.name} begins with {data[:4].hex(' ')}")
    extents = np.frombuffer(data, ">i4", axes, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(extents)


def _subject(mail: Message) -> str:
    raw = str(mail["subject"] or "")
    try:
        return str(make_header(decode_header(raw)))
    except (HeaderParseError, LookupError, UnicodeDecodeError, binascii.Error):
        return raw  # an encoding that nobody knows, as spam has them


def _body(mail: Message) -> str:
    """Return the first plain text, else the first HTML without its marks."""
    parts = {part.get_content_type(): part for part in reversed(list(mail.walk()))}
    if "text/plain" in parts:
        return _decoded(parts["text/plain"])
    if "text/html" not in parts:
        return ""
    reader = _Words()
    reader.feed(_decoded(parts["text/html"]))
    reader.close()
    return re.sub(r"[^\S\n]+", " ", re.sub(r"\s*\n\s*", "\n", "".join(reader.words))).strip()


def _decoded(part: Message) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):  # a multipart that only says it is text
        return ""
    try:
        text = data.decode(part.get_content_charset("utf-8"))
    except (LookupError, UnicodeDecodeError):
        text = data.decode("latin-1")
    return text.replace("\0", "")


class _Words(HTMLParser):
    """Collects what a reader would see, a line a block."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("script", "style")
        if tag in ("p", "br", "div", "tr", "li", "h1", "h2", "h3", "table"):
            self.words.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= bool(self.hidden) and tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words.append(data)
