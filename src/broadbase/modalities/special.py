"""Special tokens by the files of a tokenizer, and the ids that its template puts around a text.

Ids are looked up by name: a vocabulary may have [MASK] at any number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding, Tokenizer, models

from broadbase.core.errors import DataError

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
)
USUAL = {  # spellings of a role that no file names, if none names its equivalent either
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
LIKE = {"cls_token": "bos_token", "sep_token": "eos_token"}
LARGEST = 2**24  # an id: the library writes a vocabulary by counting up to its largest
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", *USUAL)


@dataclass(frozen=True)
class Special:
    """The special tokens and the template of a tokenizer."""

    roles: Mapping[str, int]  # "mask_token" -> its id
    before: tuple[int, ...] | None  # ids before a text; None: there is no template
    after: tuple[int, ...] | None  # ids after a text
    readable: bool  # whether there is a tokenizer.json, which encodes text


def special(files: Mapping[str, bytes]) -> Special | None:
    """Return the special tokens of files, given by name; None if they hold no vocabulary.

    DataError names a file that cannot be read.
    """
    tokenizer = None
    if "tokenizer.json" in files:
        tokenizer = tokenizer_of(files["tokenizer.json"], "tokenizer.json")
    words = _words(files) | ({} if tokenizer is None else tokenizer.get_vocab())
    if not words:
        return None
    before, after = (None, None) if tokenizer is None else template(tokenizer)
    named = {role: word for role, word in roles(files).items() if word in words}
    for role, usual in USUAL.items():
        if not {role, LIKE.get(role)} & named.keys() and (
            spelled := [word for word in usual if word in words]
        ):
            named[role] = spelled[0]
    ids = {role: words[word] for role, word in named.items()}
    return Special(ids, before, after, tokenizer is not None)


def roles(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the token of each role by special_tokens_map.json and tokenizer_config.json."""
    result: dict[str, str] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        tree = tree_of(files, name)
        for role in ROLES:
            word = tree.get(role)
            word = word.get("content") if isinstance(word, Mapping) else word
            if isinstance(word, str):
                result[role] = word
    return result


def tokenizer_of(content: bytes, name: str) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json; DataError, which names the file, if it is none."""
    try:
        with panics_as_errors():
            tokenizer = Tokenizer.from_buffer(content)
            tokenizer.no_padding()  # records are encoded in full, and padded in batches
            tokenizer.no_truncation()
            largest = max(tokenizer.get_vocab().values(), default=0)
        if largest > LARGEST:
            raise ValueError(f"it has the id {largest}, and the largest allowed is {LARGEST}")
        return tokenizer
    except ValueError as error:
        raise DataError(
            f"{name} is not a tokenizer that can be read ({error}); copy the file again, or give"
            " another folder"
        ) from None


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise errors and panics of the tokenizers library as ValueErrors."""
    try:
        yield
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(str(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the tokenizer broke off: {error}") from None


def template(tokenizer: Tokenizer) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return the ids that a tokenizer puts before and after a text; None, None if it has none."""
    if tokenizer.post_processor is None:
        return None, None
    word = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    try:
        with panics_as_errors():
            encoding: Encoding = tokenizer.post_process(word.encode("a"))
            at = encoding.sequence_ids.index(0)
    except ValueError as error:
        raise DataError(
            f"tokenizer.json has a post_processor that puts nothing usable around a text ({error});"
            " copy the file again"
        ) from None
    return tuple(encoding.ids[:at]), tuple(encoding.ids[at + 1 :])


def _words(files: Mapping[str, bytes]) -> dict[str, int]:
    """Return the id of every word of a vocabulary that files spell out."""
    try:
        lines = files.get("vocab.txt", b"").decode().split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"vocab.txt is not UTF-8: {error}; copy the file again") from None
    words = {line.rstrip("\r"): i for i, line in enumerate(lines) if line}
    for name in ("vocab.json", "added_tokens.json"):
        words |= {k: v for k, v in tree_of(files, name).items() if isinstance(v, int)}
    added = tree_of(files, "tokenizer_config.json").get("added_tokens_decoder")
    for i, token in added.items() if isinstance(added, Mapping) else ():
        if str(i).isdecimal() and isinstance(token, Mapping):
            words[str(token.get("content"))] = int(i)
    return words


def tree_of(files: Mapping[str, bytes], name: str) -> Mapping[str, Any]:
    """Return the object of a JSON file; an empty one if there is no such file."""
    try:
        tree = json.loads(files.get(name, b"{}"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON ({error}); copy the file again") from None
    if not isinstance(tree, dict):
        raise DataError(f"{name} holds no JSON object; copy the file again")
    return tree
