"""Reads pictures of several frames or pages, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import PIL.Image
from PIL import PngImagePlugin

from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name, reason_of
from dmsr_cli.images.composing import GifPieces, canvas_mode, compose, png_pieces
from dmsr_cli.images.formats import FORMATS
from dmsr_cli.images.limits import (
    BOMBS,
    CUT_SHORT,
    USUAL,
    Limits,
    check_size,
    loading_settings,
    pillow_settings,
    too_large,
)
from dmsr_cli.images.picture import Image
from dmsr_cli.images.reading import image_of
from dmsr_cli.images.tiff_pages import page_numbers, read_page
from dmsr_cli.images.tiff_reading import is_tiff

MAX_SEQUENCE_PIXELS = 20_000_000_000
"""Pixels that all frames together may have: two thousand seconds of 640 x 480 at 30 a second.

Frames are decoded one at a time, so this bounds the time and not the memory: a kilobyte of GIF can
hold fifty frames of any size.
"""

_BY_PILLOW = tuple(name for name in ("PNG", "WEBP", "AVIF") if name in FORMATS)


@dataclass(frozen=True)
class Frame:
    """One picture of a sequence, whole."""

    image: Image
    duration: float | None
    """Milliseconds that it is shown; None for a page."""


class Sequence:
    """The frames of an animation or the pages of a document, decoded as they are asked for.

    Close it after use, or use it in a `with` statement. A frame is what a viewer shows: pieces laid
    over each other, upright. `alpha` of its picture is None where the format or, in a GIF, the
    frame has no transparency.
    """

    format: str
    """In Pillow's words."""
    count: int
    """Frames or pages: at least 2, or 1 if the file is cut after it."""
    loop: int | None
    """How often it starts anew after it was played once, 0 for ever, None not at all. It is what a
    GIF stores; the plays that other formats count are one more. AVIF does not tell: 0."""
    is_paged: bool
    """Pages without durations, which may have different sizes."""
    comment: bytes | None
    """What a GIF says about itself."""
    warnings: tuple[str, ...]
    """What of the file could not be used, each a clause for people."""

    def __init__(self, file: BinaryIO, name: str, owned: bool, limits: Limits = USUAL) -> None:
        """Reads the headers. Raises what Pillow and tifffile raise."""
        self._file, self._name, self._owned, self._limits = file, name, owned, limits.strict
        self._canvas = 0  # pixels of each frame, where all have the same size
        self._start = file.tell()
        self.loop, self.comment, self.warnings = None, None, ()
        self._pages: list[int] = []
        self._end: str | None = None  # what is wrong after the last frame
        self.is_paged = is_tiff(file.read(4))
        if self.is_paged:
            self.format = "TIFF"
            self._pages, self.warnings, self._end = page_numbers(file)
            self.count = len(self._pages)
            return
        picture = self._open()
        self.format = picture.format or ""
        self._canvas = picture.width * picture.height
        if isinstance(picture, GifPieces):
            self._read_gif_headers(picture)
        else:
            self.count = int(getattr(picture, "n_frames", 1))
            self.count -= bool(getattr(picture, "default_image", False))
            self.loop = _loop_of_plays(picture.info.get("loop", 0))

    def _read_gif_headers(self, picture: GifPieces) -> None:
        comment = picture.info.get("comment")
        self.loop, self.comment = picture.info.get("loop"), comment
        try:
            self.count = picture.n_frames
        except Exception as error:
            self.count, self._end = picture.tell() + 1, reason_of(error)
        else:
            self._end = None if picture.ends_well else "the mark of its end is missing"
        moves = picture.info.get("duration") or "loop" in picture.info
        if self.count == 1 and not moves:
            self._end = None  # many a still ends without the mark

    def __enter__(self) -> Sequence:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def leave_out_damage(self) -> None:
        """Make it end before the first frame that cannot be decoded."""
        if self._canvas * self.count > MAX_SEQUENCE_PIXELS:
            return  # `frames` refuses it
        sound = 0
        try:
            for _ in self._frames(0, self.count, must_end_well=True):
                sound += 1
        except ImageError:
            self.count, self._end = sound, None
            self.warnings = (*self.warnings, CUT_SHORT)

    def close(self) -> None:
        """Close the file, unless it was handed over open."""
        if self._owned:
            self._file.close()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames `start` up to before `stop`, counted from 0; without `stop` to the end.

        They are decoded one by one; one iteration at a time. What lies before `start` is decoded,
        too, where frames build on each other.

        Raises:
            ImageError: the range has no frame, is too large for MAX_SEQUENCE_PIXELS, or a frame is
                damaged, missing or cut short: the message names it.
        """
        end = self.count if stop is None else stop
        if not 0 <= start < end <= self.count:
            raise ImageError(
                f"cannot read {self._name}: it has {self.count} {self._unit}s, and {start}:{end} "
                "is no range of them"
            )
        return self._frames(start, end, must_end_well=stop is None)

    @property
    def has_several(self) -> bool:
        """It is no still; or not all of it was found, but something."""
        return self.count > 1 or (self.count == 1 and self._end is not None)

    @property
    def _unit(self) -> str:
        return "page" if self.is_paged else "frame"

    def _frames(self, start: int, stop: int, must_end_well: bool) -> Iterator[Frame]:
        pixels, source, index = 0, None, start
        self._check_total(self._canvas * (stop - start), start, stop)
        while index < stop:
            with self._errors(index):
                if source is None:
                    source = self._decoded(start, stop)
                frame = next(source)
            index += 1
            pixels += frame.image.width * frame.image.height
            self._check_total(pixels, start, stop)
            yield frame
        if self._end and must_end_well:
            raise self._damaged(stop, self._end)

    def _check_total(self, pixels: int, start: int, stop: int) -> None:
        if pixels > MAX_SEQUENCE_PIXELS:
            raise ImageError(
                f"cannot read {self._name}: its {self._unit}s {start}:{stop} have more than "
                f"{MAX_SEQUENCE_PIXELS} pixels; choose fewer with --frames A:B"
            )

    def _failure(self, index: int, reason: str) -> ImageError:
        instead = f"; --frames 0:{index} takes what is before it" if index else ""
        return ImageError(
            f"cannot read {self._name}: its {self._unit} {index} (the first is 0) {reason}{instead}"
        )

    def _damaged(self, index: int, reason: str) -> ImageError:
        return self._failure(index, f"is damaged or cut short ({reason})")

    @contextlib.contextmanager
    def _errors(self, index: int) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            raise self._failure(index, f"cannot be used: {error}") from error
        except BOMBS as error:
            raise self._failure(index, too_large(error, self._limits)) from error
        except MemoryError as error:
            raise self._failure(index, "does not fit into memory") from error
        except Exception as error:  # decoders raise about every class there is
            raise self._damaged(index, reason_of(error)) from error

    def _open(self) -> PIL.Image.Image:
        self._file.seek(self._start)
        is_gif = self._file.read(4) == b"GIF8"
        self._file.seek(self._start)
        with pillow_settings(self._limits):
            if is_gif:
                gif = GifPieces(self._file)
                check_size(gif.width, gif.height, self._limits)
                return gif
            return PIL.Image.open(self._file, formats=_BY_PILLOW)

    def _decoded(self, start: int, stop: int) -> Iterator[Frame]:
        if self.is_paged:
            for number in self._pages[start:stop]:
                yield Frame(read_page(self._file, number, self._limits), None)
            return
        picture = self._open()
        shown = self._shown(picture, stop)
        for index in range(stop):
            with loading_settings(picture, self._limits):
                canvas, duration = next(shown)
            if index >= start:
                yield Frame(_as_image(canvas, picture, self._limits), duration)

    def _shown(
        self, picture: PIL.Image.Image, stop: int
    ) -> Iterator[tuple[PIL.Image.Image, float]]:
        """Whole frames of mode L, LA, RGB or RGBA, with their durations."""
        if isinstance(picture, GifPieces):
            yield from compose(picture.pieces(stop), "RGBA", picture.size)
        elif isinstance(picture, PngImagePlugin.PngImageFile):
            yield from compose(png_pieces(picture), canvas_mode(picture), picture.size)
        else:
            for index in range(stop):
                picture.seek(index)
                picture.load()
                yield picture.copy(), float(picture.info["duration"])


def open_sequence(source: str | Path | BinaryIO, limits: Limits = USUAL) -> Sequence | None:
    """The frames of a picture that has several; None for a still and for what cannot be read.

    Only headers are looked at. A `source` that is open stays open, and is where it was if the
    answer is None; it must be able to seek. Where the limits allow what is cut short, the frames
    are decoded once to count those before the damage; a warning says so.
    """
    if isinstance(source, (str, Path)):
        name, owned = display_name(source), True
        try:
            file: BinaryIO = Path(source).open("rb")  # noqa: SIM115 - the sequence closes it
        except OSError:
            return None
    else:
        name, owned = display_name(getattr(source, "name", "standard input")), False
        file = source
    start = file.tell()
    try:
        sequence = Sequence(file, name, owned, limits)
        if limits.allow_truncated and sequence.has_several:
            sequence.leave_out_damage()
            if sequence.count:
                return sequence
        elif sequence.has_several:
            return sequence
    except Exception:  # whoever reads the still says what is wrong with it
        sequence = None
    if owned:
        file.close()
    else:
        file.seek(start)
    return None


def _as_image(canvas: PIL.Image.Image, picture: PIL.Image.Image, limits: Limits) -> Image:
    """A whole frame with what the file says about all of them."""
    told = not isinstance(picture, GifPieces) and picture.has_transparency_data
    if canvas.mode in ("LA", "RGBA") and not told and canvas.getextrema()[-1] == (255, 255):
        canvas = canvas.convert(canvas.mode[:-1])
    canvas.info = {key: picture.info[key] for key in picture.info if key != "transparency"}
    canvas.format = picture.format
    return image_of(canvas, limits)


def _loop_of_plays(plays: int) -> int | None:
    return None if plays == 1 else max(0, plays - 1)
