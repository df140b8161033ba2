"""What files say about themselves: decoders forgive what contradicts it, this does not.

A file cut short, a damaged page or a wrong rate in a header decodes to something; the sums, sizes
and counts that its container keeps tell it from what was written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

PLAIN = (1, 3, 0xFFFE)  # WAV: whole numbers, floats, either of them under an extended header
UNKNOWN = 0xFFFFFFFF  # a size in a WAV file from a pipe; others there: 0, and these
STREAMED = (0x7FFFF000, 0x7FFFFFFF, 0x80000000, UNKNOWN)
STEP = 1 << 20
FLAC_RATES = dict(
    zip(
        range(1, 12),
        (88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000),
        strict=True,
    )
)
FIRST, LAST = 2, 4  # Ogg: the flags of a stream's first and last page
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def checked(data: bytes) -> bytes:
    """Return the file; raise ValueError where WAV, FLAC or Ogg is cut short or contradicts itself.

    A WAV file from a pipe does not know its sizes; they are filled in.
    """
    if data.startswith(b"RIFF"):
        data = _sized(data)
        _wav(data)
    elif data.startswith(b"fLaC"):
        _flac(data)
    elif data.startswith(b"OggS"):
        _ogg(data)
    return data


def check_png(file: IO[bytes]) -> None:
    """Raise ValueError where a PNG file has a chunk that is cut short or has another sum."""
    file.seek(8)
    name = b""
    while name != b"IEND":
        head = file.read(8)
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        read, total = 0, zlib.crc32(name)
        while read < size and (block := file.read(min(size - read, STEP))):
            read, total = read + len(block), zlib.crc32(block, total)
        stored = file.read(4)
        if len(stored) < 4:
            raise ValueError("cut short: it ends before its last chunk does")
        if total != int.from_bytes(stored, "big"):
            raise ValueError(f"its chunk {name.decode('latin-1')!r} has another sum than it states")


def flac_digest(data: bytes) -> bytes | None:
    """Return the MD5 of the samples that a FLAC file was made from (RFC 9639.

    8.2), where it tells one.
    """
    if not data.startswith(b"fLaC") or len(data) < 42:
        return None
    return data[26:42] if any(data[26:42]) else None


def _flac(data: bytes) -> None:
    """Raise ValueError where the first frame has another rate (RFC 9639, 9.1): the MD5 omits it."""
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last, at = data[at] > 127, at + 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    header_hz, head = (
        int.from_bytes(data[18:21], "big") >> 4,
        data[at : at + 15].ljust(15, b"\0"),
    )
    if head[0] != 0xFF or head[1] >> 2 != 0x3E:
        return  # no frame, as its decoder will say
    number = max(1, 8 - (~head[4] & 0xFF).bit_length())  # bytes of its number, coded as in UTF-8
    rest = 4 + number + {6: 1, 7: 2}.get(head[2] >> 4, 0)
    short, long = head[rest], int.from_bytes(head[rest : rest + 2], "big")
    rate = FLAC_RATES.get(code := head[2] & 15) or {
        12: 1000 * short, 13: long, 14: 10 * long
    }.get(code, header_hz)  # fmt: skip
    if rate != header_hz:
        raise ValueError(
            f"its header contradicts itself: {header_hz} Hz, its first frame {rate} Hz"
        )


def _wav(data: bytes) -> None:
    """Raise ValueError where a chunk leaves the file, or the format's numbers disagree."""
    promised = int.from_bytes(data[4:8], "little") + 8
    if promised > len(data) + promised % 2:
        raise ValueError(f"cut short: its header promises {promised} bytes, it has {len(data)}")
    sizes = dict[bytes, int]()
    for name, at, size in _chunks(data):
        if at + size > len(data):
            left, kind = len(data) - at, name.decode("latin-1")
            raise ValueError(f"cut short: a chunk {kind!r} of {size} bytes where {left} are left")
        if name == b"fmt ":
            _format(data[at : at + size])
        sizes[name] = size
    for needed in (b"fmt ", b"data"):
        if needed not in sizes:
            raise ValueError(f"a WAV file without a chunk {needed.decode()!r}")


def _sized(data: bytes) -> bytes:
    """Return the same, with the true sizes where the writer of a WAV file could not know them."""
    promised, block = int.from_bytes(data[4:8], "little"), 1
    for name, at, size in _chunks(data):
        if name == b"fmt ":
            block = max(1, int.from_bytes(data[at + 12 : at + 14], "little"))
        elif name == b"data":
            begun = size == 0 and promised in (0, UNKNOWN, at - 8)
            if begun or size in STREAMED:
                size = (len(data) - at) // block * block
            elif promised not in (0, UNKNOWN):
                break
            mended = bytearray(data)
            mended[4:8], mended[at - 4 : at] = (
                number.to_bytes(4, "little") for number in (len(data) - 8, size)
            )
            return bytes(mended)
    return data


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset and size of each chunk."""
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        yield name, at + 8, size
        at += 8 + size + size % 2


def _format(chunk: bytes) -> None:
    if len(chunk) < 16:
        raise ValueError(f"a format of {len(chunk)} bytes where a WAV file has 16")
    kind, channels, rate, speed, block, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind in PLAIN and (block != channels * -(-bits // 8) or speed != rate * block):
        raise ValueError(
            f"its header contradicts itself: {channels} channels of {bits} bits at {rate} Hz,"
            f" {block} bytes a frame and {speed} a second"
        )


def _ogg(data: bytes) -> None:
    """Raise ValueError where a page is cut short, missing, damaged, or of another sound.

    A cut between two pages does not show: some encoders never flag a stream's last page.
    """
    at, numbers, ended = 0, dict[int, int](), False
    while at < len(data):
        head = data[at : at + 27]
        if len(head) < 27 or not head.startswith(b"OggS\0"):
            raise ValueError(f"damaged or cut short: no Ogg page at byte {at}")
        flags, stream, number, total = head[5], *struct.unpack("<III", head[14:26])
        body = at + 27 + head[26]
        stop = body + sum(data[at + 27 : body])
        page = data[at:stop]
        if stop > len(data):
            raise ValueError(f"cut short: the Ogg page at byte {at} is incomplete")
        if _sum(page[:22] + bytes(4) + page[26:]) != total:
            raise ValueError(f"damaged: the Ogg page at byte {at} has another sum than it states")
        if ended and flags & FIRST:
            raise ValueError(f"several sounds in one file, the next from byte {at}; split it")
        if number != numbers.get(stream, number if flags & FIRST else 0):
            raise ValueError(f"an Ogg page is missing before byte {at}")
        numbers[stream], ended, at = number + 1, bool(flags & LAST), stop


def _sum(page: bytes) -> int:
    """Return Ogg's CRC-32 (RFC 3533, 6): zlib's with the bits reversed and no complements."""
    turned = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{turned:032b}"[::-1], 2)
