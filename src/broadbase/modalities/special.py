"""Special tokens, as the files of a tokenizer name them, and what its template puts around a text.

No id is known by number: a vocabulary may have [MASK] anywhere.
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
USUAL = {  # how a role is spelled where no file says so, and none says it of its like
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
LIKE = {"cls_token": "bos_token", "sep_token": "eos_token"}
LARGEST = 2**24  # an id: the library writes a vocabulary by counting up to its largest
ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", *USUAL)


@dataclass(frozen=True)
class Special:
    """What a tokenizer says of itself."""

    roles: Mapping[str, int]  # "mask_token" -> its id
    before: tuple[int, ...] | None  # what the template puts before a text; None: it has no template
    after: tuple[int, ...] | None
    readable: bool  # whether there is a tokenizer.json, which encodes text


def special(files: Mapping[str, bytes]) -> Special | None:
    """What these files say, by their names; None where they hold no vocabulary.

    DataError names the file that cannot be read.
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
            found := [word for word in usual if word in words]
        ):
            named[role] = found[0]
    ids = {role: words[word] for role, word in named.items()}
    return Special(ids, before, after, tokenizer is not None)


def roles(files: Mapping[str, bytes]) -> dict[str, str]:
    """How special_tokens_map.json and tokenizer_config.json spell the token of each role."""
    found: dict[str, str] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        told = tree_of(files, name)
        for role in ROLES:
            word = told.get(role)
            word = word.get("content") if isinstance(word, Mapping) else word
            if isinstance(word, str):
                found[role] = word
    return found


def tokenizer_of(content: bytes, name: str) -> Tokenizer:
    """The tokenizer in a tokenizer.json; DataError, which names the file, where it holds none."""
    try:
        with panics_as_errors():
            tokenizer = Tokenizer.from_buffer(content)
            tokenizer.no_padding()  # records are encoded whole, and padded by whoever batches them
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
    """Errors and panics of the library, which are no ValueErrors, as ValueErrors."""
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
    """The ids that a tokenizer puts before and after a text; (None, None) without a template."""
    if tokenizer.post_processor is None:
        return None, None
    word = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    try:
        with panics_as_errors():
            whole: Encoding = tokenizer.post_process(word.encode("a"))
            at = whole.sequence_ids.index(0)
    except ValueError as error:
        raise DataError(
            f"tokenizer.json has a post_processor that puts nothing usable around a text ({error});"
            " copy the file again"
        ) from None
    return tuple(whole.ids[:at]), tuple(whole.ids[at + 1 :])


def _words(files: Mapping[str, bytes]) -> dict[str, int]:
    """Every word of a vocabulary that these files spell out, and its id."""
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
    """The object in a JSON file; an empty one where there is no such file."""
    try:
        found = json.loads(files.get(name, b"{}"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON ({error}); copy the file again") from None
    if not isinstance(found, dict):
        raise DataError(f"{name} holds no JSON object; copy the file again")
    return found
