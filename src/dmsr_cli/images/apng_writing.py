"""Writes an animated PNG frame by frame; Pillow packs each, and would hold all of them."""

from __future__ import annotations

import shutil
import struct
import tempfile
from fractions import Fraction
from typing import IO, Any

import PIL.Image
from PIL import ImageChops, PngImagePlugin

from dmsr_cli.errors import ImageError

_MOST = 65_535  # of a fraction's two numbers


class ApngWriter:
    """Takes frames and writes the part that changed; holds the last one."""

    def __init__(
        self, file: IO[bytes], count: int, loop: int | None, options: dict[str, Any]
    ) -> None:
        """`count` frames must follow; `options` are those of Pillow's PNG writer."""
        self._file, self._count, self._options = file, count, options
        self._plays = 0 if loop == 0 else (loop or 0) + 1
        self._start = file.tell()
        self._numbered = 0  # chunks that bear a number
        self._durations: list[float] = []
        self._last: PIL.Image.Image | None = None

    def add(self, picture: PIL.Image.Image, duration: float) -> None:
        """Write a frame of mode L, LA, RGB or RGBA. The first mode that is none of them all, that
        of colour with alpha being the widest, has the earlier frames written again."""
        if self._last is None:
            self._write_first(picture, duration)
            return
        if picture.mode != self._last.mode:
            mode = _wider(picture.mode, self._last.mode)
            if mode != self._last.mode:
                self._write_again(mode)
            picture = picture.convert(mode)
        change = ImageChops.difference(picture, self._last).getbbox(alpha_only=False)
        place = change or (0, 0, 1, 1)
        self._control(place, duration)
        packing = {key: value for key, value in self._options.items() if key[:8] == "compress"}
        for name, data, _ in PngImagePlugin.getchunks(picture.crop(place), **packing):
            if name == b"IDAT":
                self._chunk(b"fdAT", self._next_number(), data)
        self._last = picture

    def finish(self) -> None:
        """Write the end."""
        self._chunk(b"IEND")

    def _write_first(self, picture: PIL.Image.Image, duration: float) -> None:
        self._file.write(b"\x89PNG\r\n\x1a\n")
        has_begun = False
        for name, data, _ in PngImagePlugin.getchunks(picture, **self._options):
            if name == b"IDAT" and not has_begun:
                self._chunk(b"acTL", struct.pack(">II", self._count, self._plays))
                self._control((0, 0, *picture.size), duration)
                has_begun = True
            if name != b"IEND":
                self._chunk(name, data)
        self._last = picture

    def _write_again(self, mode: str) -> None:
        durations = self._durations
        with tempfile.TemporaryFile() as earlier:
            self._file.seek(self._start)
            shutil.copyfileobj(self._file, earlier)
            self._file.seek(self._start)
            self._file.truncate()
            self._numbered, self._durations, self._last = 0, [], None
            with PIL.Image.open(earlier, formats=["PNG"]) as pictures:
                for index, duration in enumerate(durations):
                    pictures.seek(index)
                    self.add(pictures.convert(mode), duration)

    def _control(self, place: tuple[int, int, int, int], duration: float) -> None:
        """The block before each frame: it is put in its place, and stays."""
        left, top, right, bottom = place
        seconds = Fraction(duration / 1000).limit_denominator(_MOST)
        if seconds.numerator > _MOST:
            seconds = Fraction(round(duration / 1000))
        if seconds.numerator > _MOST:
            raise ImageError(f"a frame of {duration / 1000:.0f} s is too long for PNG")
        where = struct.pack(">IIII", right - left, bottom - top, left, top)
        delay = struct.pack(">HH", seconds.numerator, seconds.denominator)
        self._chunk(b"fcTL", self._next_number(), where, delay, bytes(2))
        self._durations.append(duration)

    def _next_number(self) -> bytes:
        self._numbered += 1
        return struct.pack(">I", self._numbered - 1)

    def _chunk(self, name: bytes, *data: bytes) -> None:
        PngImagePlugin.putchunk(self._file, name, *data)


def _wider(one: str, other: str) -> str:
    alpha = "A" if "A" in one + other else ""
    return ("L" if one[0] == other[0] == "L" else "RGB") + alpha
