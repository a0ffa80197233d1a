"""Reads clips, frame by frame."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name
from dmsr_cli.images import MAX_PIXELS, Samples
from dmsr_cli.video.colour import Colour
from dmsr_cli.video.decoding import (
    decoded,
    first_time,
    opened_clip,
    stated_length,
    video_stream,
)
from dmsr_cli.video.pictures import colour_of, has_alpha, is_grey, rgb_of
from dmsr_cli.video.rotation import Rotation, rotation_of

if TYPE_CHECKING:
    from av import VideoFrame as Picture
    from av.container import InputContainer
    from av.video.stream import VideoStream

_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame of a clip; `dataclasses.replace` gives one with other pixels."""

    pixels: Samples
    """Height x width x 3, RGB, upright: float32 in [0, 1] from the reader; a result may also be
    uint8 or uint16."""
    index: int
    """From 0, in the order in which the clip shows them."""
    time: Fraction
    """Seconds at which it is shown, by the clip's clock."""
    duration: Fraction
    """Seconds until the next one."""
    is_last: bool
    """No frame of the clip follows."""


class VideoReader:
    """A clip, and what its file says besides the pixels; `open_video` makes one."""

    path: Path
    width: int
    """Columns of the upright picture."""
    height: int
    """Rows of the upright picture."""
    rate: Fraction
    """Frames per second, of a variable rate the mean."""
    frame_count: int | None
    """As the header says or by its duration, so perhaps not exact; None if neither is known."""
    has_audio: bool
    codec: str
    """In FFmpeg's words, as `h264`."""
    bits: int
    """Of each channel."""
    is_grey: bool
    """It has no colours: the three channels are equal."""
    colour: Colour
    time_base: Fraction
    """Seconds in which its times are counted."""
    start: Fraction
    """Seconds by the clip's clock when the first of its streams starts."""
    sample_aspect_ratio: Fraction
    """Width by height of a pixel of the upright picture."""
    warnings: tuple[str, ...]
    """What of the clip is not kept, each a clause for people: `its transparency was left out`."""

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        self.path = path
        self._max_pixels = max_pixels
        self._generators: list[Generator[VideoFrame, None, None]] = []
        with opened_clip(path) as container, self._naming_errors():
            stream = video_stream(container)
            self._read_header(container, stream)
            with contextlib.closing(decoded(container, stream)) as pictures:
                picture = next(pictures, None)
            if picture is None:
                raise ImageError("it has no frame")
            self._read_picture(stream, picture)

    def _read_header(self, container: InputContainer, stream: VideoStream) -> None:
        """What the container says, before anything is decoded."""
        pixels = stream.width * stream.height
        if pixels > self._max_pixels:
            raise ImageError(
                f"its frames have {pixels} pixels, more than the limit of {self._max_pixels}; if "
                f"that is no mistake, allow it with --max-pixels {pixels}"
            )
        self.codec = stream.codec_context.codec.canonical_name
        self.time_base = stream.time_base or Fraction(1, 90_000)
        self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self.start = first_time(container)
        self.has_audio = bool(container.streams.audio)
        count = stream.frames or round((stated_length(container) or 0) * self.rate)
        self.frame_count = count or None

    def _read_picture(self, stream: VideoStream, picture: Picture) -> None:
        """What only the first picture says."""
        warnings = []
        rotation = rotation_of(picture)
        if rotation is None:
            warnings.append("its rotation is not by quarter turns and was left out")
        self._rotation = rotation or Rotation()
        self._coded_size = (picture.width, picture.height)
        swapped = self._rotation.swaps_sides
        self.width, self.height = self._coded_size[::-1] if swapped else self._coded_size
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self.sample_aspect_ratio = 1 / aspect if swapped else aspect
        self.bits = max(part.bits for part in picture.format.components)
        self.is_grey = is_grey(picture.format)
        self.colour, stated = colour_of(picture, stream)
        if not stated:
            warnings.append("its colour matrix is not supported and was taken for a usual one")
        if has_alpha(picture.format):
            warnings.append("its transparency was left out")
        if picture.interlaced_frame:
            warnings.append("it is interlaced, and its half pictures were taken for whole ones")
        if self.colour.transfer in _HDR:
            kind = _HDR[self.colour.transfer]
            warnings.append(f"it is HDR ({kind}), which was kept without tone mapping")
        self.warnings = tuple(warnings)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all iterations over frames and close their files; a second call does nothing."""
        while self._generators:
            self._generators.pop().close()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[VideoFrame]:
        """The frames from `start` up to before `stop`, each read when it is asked for.

        A second call starts anew. To know its duration, a frame waits for the next one's time.

        Raises:
            ImageError: none is in this range, or the clip is damaged or cut short in it.
        """
        if start < 0 or (stop is not None and stop <= start):
            chosen = f"{start}:{'' if stop is None else stop}"
            raise ImageError(f"{display_name(self.path)}: no frame is in the range {chosen}")
        generator = self._frames(start, stop)
        self._generators.append(generator)
        return generator

    def _frames(self, start: int, stop: int | None) -> Generator[VideoFrame, None, None]:
        count = 0
        waiting: tuple[Picture, Fraction] | None = None
        with (
            opened_clip(self.path) as container,
            contextlib.closing(self._timed(container)) as pictures,
        ):
            for picture, time in pictures:
                if waiting is not None and count > start:
                    yield self._frame(*waiting, count - 1, time - waiting[1], is_last=False)
                if stop is not None and count >= stop:
                    break
                waiting = (picture, time)
                count += 1
            else:
                if waiting is not None and count > start:
                    picture, time = waiting
                    duration = (picture.duration or 0) * self.time_base or 1 / self.rate
                    yield self._frame(picture, time, count - 1, duration, is_last=True)
        if count <= start:
            raise ImageError(
                f"{display_name(self.path)}: there is no frame {start}, the clip has {count}"
            )

    def _frame(
        self, picture: Picture, time: Fraction, index: int, duration: Fraction, is_last: bool
    ) -> VideoFrame:
        with self._naming_errors(index, time):
            if (picture.width, picture.height) != self._coded_size:
                raise ImageError("its pictures have another size from there on; cut it there")
            pixels = self._rotation.upright(rgb_of(picture, self.colour))
        return VideoFrame(pixels, index, time, duration, is_last)

    def _timed(self, container: InputContainer) -> Generator[tuple[Picture, Fraction], None, None]:
        """All pictures, with times that go forward even where those of the clip do not."""
        pictures = decoded(container, video_stream(container))
        index, time = 0, self.start
        while True:
            with self._naming_errors(index, time):
                picture = next(pictures, None)
            if picture is None:
                return
            stated = None if picture.pts is None else picture.pts * self.time_base
            if index and (stated is None or stated <= time):
                time += 1 / self.rate
            elif stated is not None:
                time = stated
            yield picture, time
            index += 1

    @contextlib.contextmanager
    def _naming_errors(self, index: int = 0, time: Fraction | None = None) -> Iterator[None]:
        """Name the clip, and the frame near which it happened, in an ImageError."""
        try:
            yield
        except ImageError as error:
            place = "" if time is None else f" at frame {index} ({float(time):.2f} s)"
            raise ImageError(f"cannot read {display_name(self.path)}{place}: {error}") from error


def open_video(path: str | Path, max_pixels: int = MAX_PIXELS) -> VideoReader:
    """Open a clip; its first frame is decoded to see that it can be read, and how.

    Args:
        path: the clip.
        max_pixels: of a frame.

    Raises:
        ImageError: PyAV is not installed, or the file is missing, unreadable, no clip, has no
            moving pictures that can be decoded, or larger ones.
    """
    return VideoReader(Path(path), max_pixels)
