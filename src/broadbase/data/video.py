"""Video files, cut into clips of T frames at a stride, in windows of one size.

Clips close in time are nearly one picture. So a file is cut into stretches with a gap of unused
frames between, and all clips of a stretch fall on one side of the split.

Legend: T frames of a clip, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from upath import UPath

from broadbase.core.contracts import Record, Reject
from broadbase.core.errors import ConfigError
from broadbase.core.optional import optional
from broadbase.data.apart import apart
from broadbase.data.sources import FilesConfig

# Of FFmpeg's readers those of ordinary files: playlists and others would open what they name.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,ogg,flv,asf"
THIN = 20  # times as long as wide
HDR = {16: "PQ", 18: "HLG"}  # transfer functions (ITU-T H.273) that 8 bits would garble
WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}

Pixels = NDArray[np.uint8]  # [T,H,W,3]


class ClipsConfig(FilesConfig):
    """Every record is a clip, RGB [T,size,size,3] in bytes; not a choice by itself.

    Frames are scaled until the shorter side has `side` pixels; a subclass cuts windows from them.
    """

    pattern: str = "**/*.mp4 **/*.m4v **/*.mov **/*.avi **/*.mkv **/*.webm **/*.mpg **/*.mpeg"
    labels: Literal["none", "file", "folder"] = "none"
    frames: Annotated[int, Field(ge=1)] = 8  # of a clip
    stride: Annotated[int, Field(ge=1)] = 2  # from a frame of a clip to its next
    hop: Annotated[int, Field(ge=1)] = 2  # from a clip's first frame to the next clip's
    stretch: Annotated[int, Field(ge=1)] = 24  # frames that stay on one side of the split
    gap: Annotated[int, Field(ge=0)] = 16  # frames after a stretch that are left out
    side: Annotated[int, Field(ge=1)] = 128
    size: Annotated[int, Field(ge=1)] = 64
    limit: Annotated[float, Field(gt=0)] = 9.0  # megapixels of a frame
    most: Annotated[int, Field(ge=1)] = 1_000_000  # frames of a file
    seconds: Annotated[float, Field(gt=0)] = 60.0  # that decoding may take without a clip

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
        optional("av", "video", "reading videos")
        return apart(self.decoded, path, self.seconds, (__name__, "av"))

    def decoded(self, path: UPath) -> Iterator[Record | Reject]:
        """The clips of a file, decoded by this process."""
        clip = None
        try:
            for clip in self._stretches(path):
                yield clip
            if clip is None:
                raise ValueError("too few frames for a clip")
        except ConfigError:
            raise
        except Exception as error:  # FFmpeg's, and what its damaged answers bring about
            yield Reject(str(path), f"not a video that can be read: {error}")

    def _stretches(self, path: UPath) -> Iterator[Record]:
        """The clips of one stretch after another."""
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
                place = f"{path}:frame {first + start}, {window}"
                yield Record(clip, place, label or named, group=group)

    def windows(self, frames: Pixels) -> Iterator[tuple[str, str | None, Pixels]]:
        """What is cut from frames [T,H,W,3], with its name and, where it has one, its label."""
        raise TypeError(f"{type(self).__name__} has no windows()")

    def _frames(self, path: UPath) -> Iterator[Pixels]:
        av = optional("av", "video", "reading videos")
        options = {"format_whitelist": CONTAINERS}
        av.logging.set_level(av.logging.ERROR)
        logs = av.logging.Capture()
        with logs as told, path.open("rb") as file, av.open(file, options=options) as video:
            if not video.streams.video:
                raise ValueError("no pictures in it")
            stream, count = video.streams.video[0], 0
            stream.thread_type = "NONE"
            stream.codec_context.options = {"err_detect": "explode"}
            self._allow(stream.codec_context)
            for count, frame in enumerate(video.decode(stream), 1):
                if frame.is_corrupt or told:  # of sums that do not agree FFmpeg only complains
                    why = f": {told[0][2].strip()}" if told else ""
                    raise ValueError(f"frame {count} is damaged{why}")
                if count > self.most:
                    raise ValueError(f"more than {self.most:,} frames; cut it, or raise `most`")
                self._allow(frame)  # a file may change its size on the way
                yield self._scaled(frame)
            seconds = (video.duration or 0) / av.time_base
            if count < 0.9 * (wanted := stream.frames or seconds * (stream.average_rate or 0)):
                raise ValueError(f"cut short: {count} of about {int(wanted)} frames")

    def _allow(self, picture: Any) -> None:
        """ValueError where frames are too large, or of colours that 8 bits of RGB would garble."""
        width, height = picture.width, picture.height
        if width * height > self.limit * 1e6:
            raise ValueError(
                f"{width} x {height} pixels, more than {self.limit:g} megapixels; shrink it, or"
                " raise the source's `limit`"
            )
        if max(width, height) > THIN * min(width, height):
            raise ValueError(f"{width} x {height} pixels: too thin to cut windows from")
        if picture.color_trc in HDR:
            raise ValueError(f"high dynamic range ({HDR[picture.color_trc]}); map it to SDR first")
        if picture.format is not None and any(part.is_alpha for part in picture.format.components):
            raise ValueError("transparent pictures; lay them on a background first")

    def _scaled(self, frame: Any) -> Pixels:
        """The frame upright, in RGB, its shorter side `side`; any other mode is converted."""
        if frame.rotation % 90:
            raise ValueError(f"frames turned by {frame.rotation} degrees")
        scale = self.side / min(frame.width, frame.height)
        width, height = round(frame.width * scale), round(frame.height * scale)
        small = frame.reformat(width, height, "rgb24", interpolation="AREA")
        return np.rot90(small.to_ndarray(), frame.rotation // 90)


class VideoFilesConfig(ClipsConfig):
    """Clips of as many windows as lie side by side, about the middle of the frames."""

    name: Literal["video_files"] = "video_files"

    def windows(self, frames: Pixels) -> Iterator[tuple[str, str | None, Pixels]]:
        H, W = frames.shape[1:3]
        down, across = H // self.size, W // self.size
        top, left = (H - down * self.size) // 2, (W - across * self.size) // 2
        for row in range(down):
            for column in range(across):
                y, x = top + row * self.size, left + column * self.size
                clip = frames[:, y : y + self.size, x : x + self.size]
                yield f"window {row},{column}", None, clip


class PannedVideosConfig(ClipsConfig):
    """Clips over which the camera pans; the label is the way it goes: up, down, left, right.

    The window moves over the frames of the video by `step` pixels a frame of the clip.
    """

    name: Literal["panned_videos"] = "panned_videos"
    step: Annotated[int, Field(ge=1)] = 3

    def windows(self, frames: Pixels) -> Iterator[tuple[str, str | None, Pixels]]:
        T, H, W = frames.shape[:3]
        middle = np.array([(H - self.size) // 2, (W - self.size) // 2])
        times = np.arange(T) - (T - 1) // 2
        for way, direction in WAYS.items():
            corners = middle + self.step * times[:, None] * np.array(direction)
            if corners.min() < 0 or (corners + self.size > [H, W]).any():
                raise ValueError(f"a pan of {self.step} pixels a frame leaves frames of {W} x {H}")
            places = zip(frames, corners, strict=True)
            clip = [f[y : y + self.size, x : x + self.size] for f, (y, x) in places]
            yield f"pan {way}", way, np.stack(clip)
