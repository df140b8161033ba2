"""Video files, cut into clips of T frames at a stride, in windows of one size.

Clips close in time are nearly one picture. So a file is cut into stretches with a gap of unused
frames between, and all clips of a stretch fall on one side of the split.

Legend: T frames of a clip, H and W height and width.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from upath import UPath

from broadbase.core.errors import ConfigError
from broadbase.core.extras import require_extra
from broadbase.core.sources import Record, Reject
from broadbase.data.sources.files import FilesConfig
from broadbase.data.sources.isolated import apart

# Of FFmpeg's readers those of ordinary files: playlists and others would open what they name.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,ogg,flv,asf"
THIN = 20  # times as long as wide
HDR = {16: "PQ", 18: "HLG"}  # transfer functions (ITU-T H.273) that 8 bits would garble

Pixels = NDArray[np.uint8]  # [T,H,W,3]


class DamagedError(ValueError):
    """A file of which so many bytes are left unread."""

    def __init__(self, error: Exception, left: int) -> None:
        """Take the message of `error`, and the `left` bytes."""
        super().__init__(str(error))
        self.left = max(1, left)


class ClipsConfig(FilesConfig):
    """Every record is a clip, RGB [T,size,size,3] in bytes; not a choice by itself.

    Frames are scaled until the shorter side has `side` pixels; a subclass cuts windows from them.
    """

    pattern: str = "**/*.mp4 **/*.m4v **/*.mov **/*.avi **/*.mkv **/*.webm **/*.mpg **/*.mpeg"
    labels: Literal["none", "file", "folder"] = "none"
    """The label of a clip: none, the name of its file, or the first folder that it lies in."""
    frames: Annotated[int, Field(ge=1)] = 8
    """The frames of a clip."""
    stride: Annotated[int, Field(ge=1)] = 2
    """The frames from a frame of a clip to its next."""
    hop: Annotated[int, Field(ge=1)] = 2
    """The frames from a clip's first frame to the next clip's."""
    stretch: Annotated[int, Field(ge=1)] = 24
    """The frames in a row that stay on one side of the split."""
    gap: Annotated[int, Field(ge=0)] = 16
    """The frames after a stretch that are left out."""
    side: Annotated[int, Field(ge=1)] = 128
    """The pixels of the shorter side of a scaled frame."""
    size: Annotated[int, Field(ge=1)] = 64
    """The pixels of a side of a window."""
    limit: Annotated[float, Field(gt=0)] = 9.0
    """The most megapixels of a frame."""
    most: Annotated[int, Field(ge=1)] = 1_000_000
    """The most frames of a file."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """The seconds that decoding may take without a clip."""

    @model_validator(mode="after")
    def _clips_fit(self) -> Self:
        if (self.frames - 1) * self.stride >= self.stretch:
            raise ValueError(
                f"a clip of {self.frames} frames at stride {self.stride} is longer than a stretch"
                f" of {self.stretch}; raise `stretch`"
            )
        if self.side < self.size:
            raise ValueError(f"frames of shorter side {self.side} hold no window of {self.size}")
        return self

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        require_extra("av", "video", "reading videos")
        return apart(self.decoded, path, self.seconds, (__name__, "av"))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """Yield the clips of a file, decoded by this process."""
        clip = None
        try:
            for clip in self._stretches(path):
                yield clip
            if clip is None:
                raise ValueError("too few frames for a clip")
        except ConfigError:
            raise
        except Exception as error:  # FFmpeg's, and what its damaged answers bring about
            lost = error.left if isinstance(error, DamagedError) and clip else 0  # else: all of it
            yield Reject(str(path), f"not a video that can be read: {error}", lost=lost)

    def _stretches(self, path: UPath) -> Iterator[Record]:
        """Yield the clips of one stretch after another."""
        stretch: list[Pixels] = []
        first = 0
        for number, frame in enumerate(self._frames(path)):
            if (within := number % (self.stretch + self.gap)) < self.stretch:
                stretch.append(frame)
            if within == self.stretch - 1:
                yield from self._clips(path, first, stretch)
                stretch, first = [], number + 1 + self.gap
        yield from self._clips(path, first, stretch)

    def _clips(self, path: UPath, first: int, stretch: Sequence[Pixels]) -> Iterator[Record]:
        named = {"none": None, "file": path.stem, "folder": self._class(path)}[self.labels]
        group = f"{self._name(path)}:{first}"
        span = (self.frames - 1) * self.stride + 1
        for start in range(0, len(stretch) - span + 1, self.hop):
            frames = np.stack(stretch[start : start + span : self.stride])
            for window, label, clip in self.windows(frames):
                origin = f"{path}:frame {first + start}, {window}"
                yield Record(clip, origin, label or named, group=group)

    @abstractmethod
    def windows(self, frames: Pixels) -> Iterator[tuple[str, str | None, Pixels]]:
        """Return what is cut from frames [T,H,W,3].

        With its name and, where it has one, its label.
        """

    def _frames(self, path: UPath) -> Iterator[Pixels]:
        av = require_extra("av", "video", "reading videos")
        options = {"format_whitelist": CONTAINERS}
        av.logging.set_level(av.logging.ERROR)
        logs = av.logging.Capture()
        with logs as complaints, path.open("rb") as file, av.open(file, options=options) as video:
            try:
                yield from self._shown(video, complaints)
            except Exception as error:
                raise DamagedError(error, path.stat().st_size - file.tell()) from None

    def _shown(self, video: Any, complaints: Sequence[Any]) -> Iterator[Pixels]:
        """Yield the frames of an open file; ValueError if it is damaged, cut short or too much."""
        if not video.streams.video:
            raise ValueError("no pictures in it")
        stream, first, end = video.streams.video[0], None, 0.0
        stream.thread_type = "NONE"
        most = str(int(self.limit * 1e6))  # which FFmpeg heeds before it makes room for a frame
        stream.codec_context.options = {"err_detect": "explode", "max_pixels": most}
        stretched = stream.sample_aspect_ratio or 1  # how much wider a pixel is than high
        self._allow(stream.codec_context, stretched)
        for count, frame in enumerate(video.decode(stream), 1):
            if frame.is_corrupt or complaints:  # of sums that do not agree FFmpeg only complains
                why = f": {complaints[0][2].strip()}" if complaints else ""
                raise ValueError(f"frame {count} is damaged{why}")
            if count > self.most:
                raise ValueError(f"more than {self.most:,} frames; cut it, or raise `most`")
            self._allow(frame, stretched)  # a file may change its size on the way
            if frame.time is not None:
                first = frame.time if first is None else first
                end = max(end, frame.time + float(frame.duration * frame.time_base))
            yield self._scaled(frame, stretched)
        if complaints:
            raise ValueError(f"cut short: {complaints[0][2].strip()}")
        length = end - (first or 0.0)
        if first is not None and length < 0.9 * (wanted := _promised(video, first)):
            raise ValueError(f"cut short: {length:.3g} of {wanted:.3g} s")

    def _allow(self, picture: Any, stretched: Any) -> None:
        """Raise ValueError where frames are too large.

        Or of colours that 8 bits of RGB would garble.
        """
        width, height = picture.width, picture.height
        if width * height > self.limit * 1e6:
            raise ValueError(
                f"{width} x {height} pixels, more than {self.limit:g} megapixels; shrink it, or"
                " raise the source's `limit`"
            )
        wide = width * stretched
        if max(wide, height) > THIN * min(wide, height):
            raise ValueError(f"{width} x {height} pixels: too thin to cut windows from")
        if picture.color_trc in HDR:
            raise ValueError(f"high dynamic range ({HDR[picture.color_trc]}); map it to SDR first")
        if picture.format is not None and any(part.is_alpha for part in picture.format.components):
            raise ValueError("transparent pictures; lay them on a background first")

    def _scaled(self, frame: Any, stretched: Any) -> Pixels:
        """Return the frame as it is shown, in RGB, its shorter side `side`.

        Any mode is converted.
        """
        wide = float(frame.width * stretched)
        scale = self.side / min(wide, frame.height)
        width, height = round(wide * scale), round(frame.height * scale)
        small = frame.reformat(width, height, "rgb24", interpolation="AREA", threads=1)
        return _upright(small.to_ndarray(), frame.side_data.get("DISPLAYMATRIX"))


def _promised(video: Any, first: float) -> float:
    """Return the seconds from the first frame that the container says its pictures take.

    0: nothing.
    """
    stream = video.streams.video[0]
    if "avi" in video.format.name and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # its duration is a guess from its size
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, match.groups())
        return 3600 * hours + 60 * minutes + seconds - first  # Matroska counts from its beginning
    if len(video.streams) == 1 and video.duration:
        return (
            float(video.duration / require_extra("av", "video", "reading videos").time_base) - first
        )
    return 0.0


def _upright(pixels: Pixels, matrix: Any) -> Pixels:
    """Return turned and mirrored as a display matrix says.

    Raise ValueError where it does anything else.
    """
    if matrix is None:
        return pixels
    turn = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2].astype(float)
    turn = np.round(turn / max(1.0, abs(turn).max()), 2)
    if turn[0, 0] == turn[1, 1] == 0:  # rows become columns
        pixels, turn = pixels.swapaxes(0, 1), turn[::-1]
    if turn[0, 1] or turn[1, 0] or not (turn[0, 0] and turn[1, 1]):
        raise ValueError("frames that are turned by other than right angles, or skewed")
    down, across = (int(np.sign(turn[i, i])) for i in (1, 0))
    return pixels[::down, ::across]


class VideoFilesConfig(ClipsConfig):
    """Clips of as many windows as lie side by side, about the middle of the frames."""

    name: Literal["video_files"] = "video_files"

    def windows(self, frames: Pixels) -> Iterator[tuple[str, str | None, Pixels]]:
        """Yield each window of a clip with its name and its label."""
        H, W = frames.shape[1:3]
        down, across = H // self.size, W // self.size
        top, left = (H - down * self.size) // 2, (W - across * self.size) // 2
        for row in range(down):
            for column in range(across):
                y, x = top + row * self.size, left + column * self.size
                clip = frames[:, y : y + self.size, x : x + self.size]
                yield f"window {row},{column}", None, clip
