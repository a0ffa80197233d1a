"""Writes clips, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dmsr_cli.errors import ImageError, SettingsError
from dmsr_cli.files import atomic_write, display_name, reason_of
from dmsr_cli.images import Samples
from dmsr_cli.video.copying import Companions, chapters, file_metadata, stream_metadata
from dmsr_cli.video.decoding import opened_clip, video_stream
from dmsr_cli.video.encoding import Encoding, encoding_for
from dmsr_cli.video.formats import CONTAINERS, Container
from dmsr_cli.video.library import load_av
from dmsr_cli.video.pictures import fill
from dmsr_cli.video.reading import VideoFrame, VideoReader

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

_LARGEST_ROUNDING = Fraction(1, 4)
"""Ticks of a clock by which even frames may miss it; more, and they were not even."""
_X265_DELAY = 2
"""Frames that come to x265 before it knows by how much decoding runs ahead of showing."""


def write_video(
    reader: VideoReader,
    results: Iterable[VideoFrame],
    target: str | Path,
    *,
    quality: int = 95,
    note: str | None = None,
    strip: bool = False,
    replace: bool = True,
    before_rename: Callable[[Path], None] | None = None,
) -> tuple[str, ...]:
    """Write the frames of a clip with their new pixels; whole or not at all.

    The result has the source's codec where the container of the suffix and this build of FFmpeg
    have it, else H.264 (VP9 in WebM); its depth of 8 or 10 bits, colours, times and shape of
    pixels; its sound and subtitles, packet by packet; its metadata and chapters. It is upright and
    has no rotation. Sides that are odd get a line of pixels more, the last one repeated. If the
    frames are not all of the clip, all else is cut to them, and starts at 0.

    Args:
        reader: the source.
        results: `reader.frames(...)` with other pixels, all of one size; taken one by one.
        target: its suffix, one of WRITABLE_VIDEO_SUFFIXES, chooses the container.
        quality: 1 to 100; for H.264 constant rate factors from 51 to 14, 16 at 95. ProRes and
            FFV1 have none.
        note: goes into the comment.
        strip: leave out metadata and chapters, but for the languages of streams.
        replace: a file that is there may be replaced.
        before_rename: called with the path of the finished temporary file.

    Returns:
        What could not be kept, each a clause for people, without those of `reader.warnings`.

    Raises:
        ImageError: no container for the suffix, no frames, frames of unlike sizes or with values
            that are not finite, or an encoder that refuses them.
        SettingsError: `quality` is out of range.
        ExistsError: the file is there and must not be replaced.
        DmsrError: the file cannot be written.
    """
    target = Path(target)
    if not 1 <= quality <= 100:
        raise SettingsError(f"quality must be from 1 to 100, not {quality}")
    container = _container_for(target)
    frames = iter(results)
    first = next(frames, None)
    if first is None:
        raise ImageError(f"cannot write {display_name(target)}: no frames were chosen")
    writing = atomic_write(target, replace=replace, before_rename=before_rename)
    with writing as temporary, opened_clip(reader.path) as source:
        with _naming_errors(target):
            height, width = _checked(first.pixels).shape[:2]
            encoding = encoding_for(reader, container, (width, height), quality)
        with _Output(temporary, target, reader, source, encoding, first) as output:
            output.describe(source, note, strip)
            output.add(last := first)
            for last in frames:
                output.add(last)
            output.finish(last)
    return output.warnings


def _container_for(target: Path) -> Container:
    container = CONTAINERS.get(target.suffix.lower())
    if container is None:
        suffixes = ", ".join(sorted(CONTAINERS))
        raise ImageError(
            f"cannot write {display_name(target)}: no clips are written with the suffix "
            f"{target.suffix!a}; use one of {suffixes}"
        )
    return container


def _checked(pixels: Samples) -> Samples:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(f"the pixels must be height x width x 3, not of shape {pixels.shape}")
    if pixels.dtype.kind != "f" and pixels.dtype.name not in ("uint8", "uint16"):
        raise ImageError(f"the values must be float in [0, 1], uint8 or uint16, not {pixels.dtype}")
    return pixels


@contextlib.contextmanager
def _naming_errors(target: Path) -> Iterator[None]:
    """Name the file in what FFmpeg refuses; what the system does is named by `atomic_write`."""
    from av import FFmpegError

    try:
        yield
    except (FFmpegError, ImageError, ValueError) as error:
        if isinstance(error, OSError):
            raise
        raise ImageError(f"cannot write {display_name(target)}: {reason_of(error)}") from error


class _Output:
    """A clip that is being written. Leaving its block without `finish` ends it as it is."""

    def __init__(
        self,
        temporary: Path,
        target: Path,
        reader: VideoReader,
        source: InputContainer,
        encoding: Encoding,
        first: VideoFrame,
    ) -> None:
        av = load_av(target)
        self._errors = (av.FFmpegError, OSError)
        self._picture_type = av.VideoFrame
        self._target = target
        self._encoding = encoding
        self._is_grey = reader.is_grey
        self._size = first.pixels.shape[:2]
        begin = first.time if first.index > 0 else None
        self._shift = reader.start if begin is None else begin
        """Time by the source's clock that is 0 by the new one."""
        self._frames = 0
        self._ticks = -1
        self._offset = Fraction(0)
        self._is_uneven = False
        with _naming_errors(target):
            # "file:" keeps a name with a colon from being taken for a protocol.
            self._container: OutputContainer = av.open(
                f"file:{os.fspath(temporary)}", "w", format=encoding.container.format
            )
            self._stream = encoding.add_stream(self._container, reader)
            self._companions = Companions(
                source, self._container, encoding.container, begin, self._shift
            )

    def __enter__(self) -> _Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After an error this writes the end of a file that is thrown away, and may fail again.
        with contextlib.suppress(*self._errors):
            self._container.close()

    def describe(self, source: InputContainer, note: str | None, strip: bool) -> None:
        """Carry over metadata and chapters, or leave them out, and add a note."""
        metadata = {} if strip else file_metadata(source)
        if note:
            metadata["comment"] = "; ".join(filter(None, (metadata.get("comment"), note)))
        self._container.metadata.update(metadata)
        if not strip:
            self._stream.metadata.update(stream_metadata(video_stream(source)))
            self._container.set_chapters(chapters(source, self._shift))

    def add(self, frame: VideoFrame) -> None:
        """Encode one frame, and copy what is to be heard meanwhile."""
        with _naming_errors(self._target):
            if _checked(frame.pixels).shape[:2] != self._size:
                height, width = frame.pixels.shape[:2]
                raise ImageError(f"frame {frame.index} is {width} x {height} pixels, others not")
            picture = self._picture_type(
                self._encoding.width, self._encoding.height, self._encoding.pixel_format
            )
            fill(picture, frame.pixels, self._encoding.colour, self._is_grey)
            picture.pts = self._tick_of(frame.time - self._shift)
            picture.time_base = self._encoding.clock
            self._container.mux(self._stream.encode(picture))
            self._frames += 1
            self._companions.copy_until(frame.time + frame.duration)

    def finish(self, last: VideoFrame) -> None:
        """Encode what is waiting, copy what is left, and close the file."""
        with _naming_errors(self._target):
            packets = self._stream.encode(None)
            if self._encoding.codec == "hevc" and self._frames <= _X265_DELAY:
                # Else x265 takes what the memory held for that time, which few muxers take. So few
                # frames are decoded in the order in which they are shown.
                for packet in packets:
                    packet.dts = packet.pts
            self._container.mux(packets)
            self._companions.copy_rest(None if last.is_last else last.time + last.duration)
            self._container.close()

    def _tick_of(self, time: Fraction) -> int:
        exact = time / self._encoding.clock
        ticks = max(self._ticks + 1, round(exact))
        if self._ticks < 0:
            self._offset = exact - ticks
        self._is_uneven |= abs(exact - ticks - self._offset) > _LARGEST_ROUNDING
        self._ticks = ticks
        return ticks

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be kept."""
        uneven = self._is_uneven and self._encoding.container.constant_rate
        return (
            *self._encoding.warnings,
            *self._companions.warnings,
            *(["its frame rate varies, which such a file cannot hold"] if uneven else []),
        )
