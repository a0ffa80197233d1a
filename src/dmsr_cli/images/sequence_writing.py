"""Writes animations and documents of several pages, frame by frame, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

import PIL.Image
from PIL import TiffImagePlugin

from dmsr_cli.errors import DmsrError, ExistsError, ImageError, SettingsError
from dmsr_cli.files import atomic_write, display_name, reason_of
from dmsr_cli.images.apng_writing import ApngWriter
from dmsr_cli.images.formats import FORMATS, format_named, format_of_suffix
from dmsr_cli.images.gif_writing import GifWriter
from dmsr_cli.images.picture import Image
from dmsr_cli.images.sequences import Frame
from dmsr_cli.images.writing import encoded, save_options, stored_picture

ANIMATED_FORMATS = tuple(name for name in ("GIF", "PNG", "WEBP", "AVIF") if name in FORMATS)
"""Formats that `write_sequence` writes frames with durations in."""
PAGED_FORMATS = ("TIFF",)
"""Formats that `write_sequence` writes pages in."""


@dataclass(frozen=True)
class _Settings:
    """What a writer is told besides the frames."""

    format: str
    count: int
    loop: int | None
    quality: int
    comment: bytes | None


def write_sequence(
    frames: Iterable[Frame],
    target: str | Path | BinaryIO,
    *,
    count: int,
    format: str | None = None,
    loop: int | None = 0,
    quality: int = 95,
    comment: bytes | None = None,
    metadata: bool = True,
    replace: bool = True,
    before_rename: Callable[[Path], None] | None = None,
) -> int:
    """Write frames or pages in the format given or that of the suffix; returns how many.

    They are taken one by one, and there must be `count` of them. Memory: GIF and PNG hold two
    frames at 8 bit and what the canvas shows, TIFF one page, WebP the packed frames besides, AVIF
    the few dozens that its encoder looks ahead. `loop` is that of `Sequence`; AVIF always starts
    anew. A frame that repeats the one before stays a frame, only WebP makes them one with the sum
    of their durations. Durations: GIF has hundredths of a second, rounded so that the sum stays,
    but none below two from a source above one, which browsers would show slowly; WebP and AVIF
    thousandths, likewise. GIF has 255 colours a frame and opacity 0 or 1, its colours become those
    of sRGB; `comment` is for it alone. 16 bit are kept in TIFF. Profile, EXIF, XMP and resolution
    are those of the first frame; without `metadata` the last three are left out. `replace` and
    `before_rename` are those of `write_image`.

    Raises:
        ExistsError: the file is there and must not be replaced.
        ImageError: the format cannot hold a sequence of this kind, frames are of several sizes,
            missing or too many, or the file cannot be written.
        SettingsError: `quality` is out of range.
        DmsrError: what the iterator raises goes on as it is.
    """
    if not 1 <= quality <= 100:
        raise SettingsError(f"quality must be from 1 to 100, not {quality}")
    if isinstance(target, (str, Path)):
        name, suffix = display_name(target), Path(target).suffix
    else:
        name, suffix = display_name(getattr(target, "name", "the result")), ""
    source = _Source(iter(frames), count, metadata)
    try:
        settings = _Settings(_format_for(suffix, format), count, loop, quality, comment)
        if isinstance(target, (str, Path)):
            writing = atomic_write(target, replace=replace, before_rename=before_rename)
            with writing as temporary, temporary.open("w+b") as file:
                _write(source, file, settings)
        else:
            with tempfile.TemporaryFile() as file:
                _write(source, file, settings)
                file.seek(0)
                shutil.copyfileobj(file, target)
    except Exception as error:
        if source.has_failed or isinstance(error, ExistsError):
            raise
        message = reason_of(error)
        told = isinstance(error, DmsrError) and message.startswith("cannot write")  # atomic_write
        raise ImageError(message if told else f"cannot write {name}: {message}") from error
    return count


class _Source:
    """The frames, each checked, and nothing missing; it knows whether they failed."""

    def __init__(self, frames: Iterator[Frame], count: int, metadata: bool) -> None:
        self._frames, self._count, self._metadata = frames, count, metadata
        self.has_failed = False

    def frames(self, is_paged: bool) -> Iterator[Frame]:
        """Exactly `count` of them, of one size and with durations unless they are pages."""
        size = None
        for index in range(self._count):
            frame = self._next()
            if frame is None:
                raise ImageError(f"frame {index} of {self._count} (the first is 0) is missing")
            image = frame.image
            if (frame.duration is None) != is_paged:
                raise ImageError(
                    "frames with durations cannot become TIFF pages; write .gif, .png or .webp"
                    if is_paged
                    else "pages have no durations to animate them; write .tif"
                )
            if not is_paged and size not in (None, (image.width, image.height)):
                raise ImageError(f"frame {index} (the first is 0) has another size than the first")
            size = (image.width, image.height)
            if not self._metadata:
                frame = replace(frame, image=replace(image, exif=None, xmp=None, dpi=None))
            yield frame
        if self._next() is not None:
            raise ImageError(f"there are more frames than the {self._count} announced")

    def _next(self) -> Frame | None:
        self.has_failed = True
        frame = next(self._frames, None)
        self.has_failed = False
        return frame


class _Feed(PIL.Image.Image):
    """A picture of many frames for Pillow's writers, made when they turn to them."""

    def __init__(self, frames: Iterator[Frame], format_name: str, count: int, mode: str) -> None:
        super().__init__()
        self.n_frames, self.is_animated = count, count > 1
        self.durations: list[int] = []
        """Milliseconds of the frames so far; the writers ask for each after its frame."""
        self._frames, self._format, self._wanted_mode = frames, FORMATS[format_name], mode
        self._time, self._told = 0.0, 0
        self.first = self._take()

    def seek(self, frame: int) -> None:
        """Turn to a frame: forwards only, and back to none, which writers do at the end."""
        if frame >= self.n_frames:
            raise EOFError
        while len(self.durations) <= frame:
            self._take()

    def tell(self) -> int:
        """The number of the frame that is shown."""
        return len(self.durations) - 1

    def _take(self) -> Image:
        frame = next(self._frames)
        picture = stored_picture(frame.image, self._format)
        if self._wanted_mode:
            picture = picture.convert(self._wanted_mode)
        self.im, self._mode, self._size = picture.im, picture.mode, picture.size
        self._time += frame.duration or 0
        self.durations.append(round(self._time) - self._told)
        self._told = round(self._time)
        return frame.image


def _format_for(suffix: str, name: str | None) -> str:
    known = format_named(name) if name else format_of_suffix(suffix)
    chosen = known.name if known else ""
    if chosen not in (*ANIMATED_FORMATS, *PAGED_FORMATS):
        what = f"{chosen} holds one picture" if chosen else "its format is not known"
        raise ImageError(
            f"{what}, not several; write .gif, .png, .webp or, for pages, .tif, "
            "or choose one frame with --frames A:B"
        )
    return chosen


def _write(source: _Source, file: IO[bytes], settings: _Settings) -> None:
    frames = source.frames(settings.format in PAGED_FORMATS)
    if settings.format in PAGED_FORMATS:
        _write_pages(frames, file, settings)
    elif settings.format in ("GIF", "PNG"):
        _write_pieces(frames, file, settings)
    else:
        _feed_pillow(frames, file, settings)
    for _ in frames:  # also where a writer took the last one: are there more?
        raise ImageError("the writer took too few frames")


def _write_pages(frames: Iterator[Frame], file: IO[bytes], settings: _Settings) -> None:
    with TiffImagePlugin.AppendingTiffWriter(file, new=True) as pages:
        for index, frame in enumerate(frames):
            # EXIF has places in it that Pillow does not move along with a later page.
            image = replace(frame.image, exif=None) if index else frame.image
            for part in encoded(image, FORMATS["TIFF"], settings.quality):
                pages.write(part)
            pages.newFrame()


def _write_pieces(frames: Iterator[Frame], file: IO[bytes], settings: _Settings) -> None:
    """GIF and PNG, whose writers in Pillow hold all frames."""
    writer: GifWriter | ApngWriter | None = None
    file_format = FORMATS[settings.format]
    if settings.format == "GIF":
        file_format = replace(file_format, name="")  # what a GIF can show, not yet in a palette
    for frame in frames:
        picture = stored_picture(frame.image, file_format)
        if settings.format == "GIF":
            writer = writer or GifWriter(file, settings.loop, settings.comment)
        elif writer is None:
            options = save_options(frame.image, file_format, settings.quality)
            writer = ApngWriter(file, settings.count, settings.loop, options)
        writer.add(picture, frame.duration or 0)
    if writer is not None:
        writer.finish()


def _feed_pillow(frames: Iterator[Frame], file: IO[bytes], settings: _Settings) -> None:
    """WebP and AVIF, whose encoders hold packed frames."""
    # AVIF's first frame settles for all whether there is opacity.
    mode = "RGBA" if settings.format == "AVIF" and settings.count > 1 else ""
    feed = _Feed(frames, settings.format, settings.count, mode)
    options = save_options(feed.first, FORMATS[settings.format], settings.quality)
    if settings.format == "WEBP":
        options["loop"] = 0 if settings.loop == 0 else min((settings.loop or 0) + 1, 65_535)
        options.setdefault("method", 4)  # Pillow's own for stills; for animations it takes 0
        options["background"] = (0, 0, 0, 0)
    options["duration"] = feed.durations
    feed.save(file, format=settings.format, save_all=settings.count > 1, **options)
