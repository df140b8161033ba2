"""Sound files: decoded in full, or refused by name; nothing is guessed and nothing is cut off.

Legend: n frames, C channels.
"""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from upath import UPath

from broadbase.core.extras import require_extra
from broadbase.core.sources import Record, Reject
from broadbase.data.sources import integrity
from broadbase.data.sources.files import MEBI, FilesConfig, Labels
from broadbase.data.sources.isolated import apart
from broadbase.data.sources.searching import Pattern, searched

NAME = r"([^/]+)\.[^./]+$"  # a file's name without ending, as its label
RATES = (4_000, 192_000)  # Hz
PEAK = 4.0  # times full scale, above which floats are no sound but integers
QUIET = 1e-4  # of their power that channels must leave when they are mixed
BLOCK = 1 << 18  # frames decoded at once


class Sound(NamedTuple):
    """One channel of sound."""

    samples: NDArray[np.float32]  # [n]; 1 is full scale
    rate: int  # Hz

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.float32]:
        """Return the samples, for NumPy."""
        return self.samples


class SoundsConfig(FilesConfig):
    """What all sources of sounds take and refuse; channels are mixed to one."""

    limit: Annotated[int, Field(ge=1)] = 256
    """The most mebibytes of a file."""
    seconds: Annotated[float, Field(gt=0)] = 600.0
    """The most seconds of a sound."""
    channels: Annotated[int, Field(ge=1)] = 8
    """The most channels of a sound."""
    patience: Annotated[float, Field(gt=0)] = 20.0
    """The seconds that decoding a sound may take."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        return apart(self._sounds, path, self.patience, (__name__, "soundfile"))

    @abstractmethod
    def _sounds(self, path: UPath) -> Iterator[Record | Reject]:
        """Return the sounds that a file holds or names, in the process that decodes them."""

    def _sound(self, path: UPath, label: str | None, group: str | None = None) -> Record | Reject:
        with path.open("rb") as file:
            data = file.read(self.limit * MEBI + 1)
        if not data:
            return Reject(str(path), "an empty file", empty=True)
        try:
            sound, channels = self._decoded(data)
        except ValueError as error:
            return Reject(str(path), str(error))
        mixed = (f"{channels} channels to 1",) if channels > 1 else ()
        return Record(sound, str(path), label, self._key(path), group or "", mixed)

    def _decoded(self, data: bytes) -> tuple[Sound, int]:
        """Return the sound that a file's bytes hold, and its channels; ValueError says why not."""
        if len(data) > self.limit * MEBI:
            raise ValueError(f"more than {self.limit} MiB; cut it, or raise the source's `limit`")
        data = integrity.checked(data)
        library = require_extra("soundfile", "audio", "reading sound files")
        try:
            with library.SoundFile(io.BytesIO(data)) as file:
                self._allowed(file)
                samples = self._samples(file, integrity.flac_digest(data))
        except library.LibsndfileError as error:
            raise ValueError(f"libsndfile cannot decode it: {error.error_string}") from None
        if not np.isfinite(samples).all():
            raise ValueError("some of its samples are not finite")
        if (peak := float(np.abs(samples).max())) > PEAK:
            raise ValueError(
                f"its loudest sample is {peak:.4g} times full scale: integers kept as floats?"
                " Divide by full scale"
            )
        return Sound(samples, file.samplerate), file.channels

    def _allowed(self, file: Any) -> None:
        """Raise ValueError where a header asks for more than this source takes."""
        rate, channels, frames = file.samplerate, file.channels, file.frames
        if not RATES[0] <= rate <= RATES[1]:
            raise ValueError(f"{rate} Hz is not within {RATES[0]} and {RATES[1]} Hz")
        if channels > self.channels:
            raise ValueError(f"{channels} channels; mix it, or raise the source's `channels`")
        if not frames:
            raise ValueError("no samples")
        if frames > self.seconds * rate:
            raise ValueError(f"{frames / rate:.0f} s; cut it, or raise the source's `seconds`")

    def _samples(self, file: Any, wanted: bytes | None) -> NDArray[np.float32]:
        """Return all frames [n], the mean of their channels.

        Of FLAC with the digest that it tells.
        """
        digest, done, kept = hashlib.md5(), 0, 0.0
        mixed = np.empty(file.frames, np.float32)
        while done < file.frames:
            if wanted is None:
                block = file.read(BLOCK, dtype="float32", always_2d=True)
            else:
                integers = file.read(BLOCK, dtype="int32", always_2d=True)
                digest.update(_packed(integers, file.subtype))
                block = (integers / 2.0**31).astype(np.float32)
            if not len(block):
                raise ValueError(f"cut short: {done} of {file.frames} frames can be decoded")
            mixed[done : done + len(block)] = block.mean(axis=1)
            kept += float(np.square(block, dtype=np.float64).mean(axis=1).sum())
            done += len(block)
        if wanted is not None and digest.digest() != wanted:
            raise ValueError("damaged: its samples have another MD5 than it tells")
        if float(np.square(mixed, dtype=np.float64).sum()) < QUIET * kept:
            raise ValueError("its channels cancel each other when mixed to one; give one of them")
        return mixed


class AudioFilesConfig(SoundsConfig):
    """Every file is a sound: WAV, FLAC, Ogg, MP3 of any rate and depth.

    `label` and `group` are patterns, searched for in a file's path: what their brackets hold is the
    class of the record, and what it has in common with others (a speaker, an instrument). With
    labels="folder" the class is the first folder that a file lies in.
    """

    single: ClassVar[bool] = True
    name: Literal["audio_files"] = "audio_files"
    pattern: str = "**/*.wav **/*.flac **/*.ogg **/*.oga **/*.opus **/*.mp3"
    labels: Labels = "none"
    """The label of a file: none, or the first folder that it lies in."""
    label: Pattern | None = None
    """A pattern that is searched for in the path: its group is the label; None: see `labels`."""
    group: Pattern | None = None
    """A pattern that is searched for in the path: sounds of one match fall on one side."""

    def _sounds(self, path: UPath) -> Iterator[Record | Reject]:
        label = self._class(path) if self.labels == "folder" else in_brackets(self.label, path)
        yield self._sound(path, label, in_brackets(self.group, path))


def in_brackets(pattern: str | None, path: UPath) -> str | None:
    """Return what the brackets of a pattern hold in a path; None where it does not occur."""
    match = searched(pattern, path.as_posix()) if pattern else None
    return match[1] if match and match.re.groups else None


def _packed(block_nC: NDArray[np.int32], subtype: str) -> bytes:
    """Return samples as FLAC's MD5 counts them.

    Little-endian, as few bytes as their depth needs.
    """
    depth = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}[subtype]
    return np.ascontiguousarray(block_nC).view(np.uint8).reshape(-1, 4)[:, 4 - depth :].tobytes()
