"""The pictures in a clip's file, and the signs that the file is not whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dmsr_cli.errors import ImageError
from dmsr_cli.files import check_is_file, display_name, reason_of
from dmsr_cli.video.formats import READABLE_FORMATS
from dmsr_cli.video.library import load_av

if TYPE_CHECKING:
    from av import VideoFrame as Picture
    from av.container import InputContainer
    from av.video.stream import VideoStream

_LATEST_END = Fraction(1, 2)
"""Seconds that a clip may end before its header says; more is a clip that was cut short."""


@contextlib.contextmanager
def opened_clip(path: Path) -> Iterator[InputContainer]:
    """A clip's file, opened with PyAV.

    Raises:
        ImageError: the file is missing, unreadable, or no clip that can be read.
    """
    av = load_av(path)
    name = display_name(path)
    try:
        check_is_file(path, "clip")
        path.open("rb").close()  # the system's words for what forbids it
    except (ImageError, OSError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else reason_of(error)
        raise ImageError(f"cannot read {name}: {reason}") from error
    options = {"protocol_whitelist": "file", "format_whitelist": READABLE_FORMATS}
    try:
        # "file:" keeps a name with a colon from being taken for a protocol.
        container = av.open(f"file:{os.fspath(path)}", options=options, **_lenience(av))
    except (av.FFmpegError, OSError) as error:
        raise ImageError(
            f"{name} is not a clip that can be read, or it was cut short ({error.strerror}); "
            "convert it to MP4 first"
        ) from error
    with container:
        yield container


def _lenience(av: ModuleType) -> dict[str, Any]:
    """Titles that are no UTF-8 are no reason to refuse a clip; PyAV 19 takes that for granted."""
    return {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}


def video_stream(container: InputContainer) -> VideoStream:
    """The stream with the moving pictures; the cover of an album is none.

    Raises:
        ImageError: there is none, or none that can be decoded.
    """
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & type(stream.disposition).attached_pic
    ]
    if not moving:
        raise ImageError("it has no moving pictures")
    if moving[0].codec_context is None:
        raise ImageError("there is no decoder for its codec; convert it to H.264 first")
    return moving[0]


def stated_length(container: InputContainer) -> Fraction | None:
    """Seconds that a clip has by its header; None if that does not say it."""
    return None if container.duration is None else Fraction(container.duration, 1_000_000)


def first_time(container: InputContainer) -> Fraction:
    """Seconds on a clip's clock when the first of its streams starts."""
    return Fraction(container.start_time or 0, 1_000_000)


def decoded(container: InputContainer, stream: VideoStream) -> Generator[Picture, None, None]:
    """All pictures of a stream in the order in which they are shown.

    Raises:
        ImageError: one is damaged, or the clip ends before its header says.
    """
    from av import FFmpegError

    # Threads that decode several pictures at once pass on some of them before they know of damage.
    stream.thread_type = "SLICE"
    started, end = False, first_time(container)
    for packet in container.demux():
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if packet.stream.index != stream.index:
            continue
        try:
            pictures = stream.decode(packet)
        except FFmpegError as error:
            # A recording may start amidst a group of pictures: players skip its rest, too.
            if started or packet.is_keyframe:
                raise ImageError(f"it is damaged or cut short ({reason_of(error)})") from error
            continue
        for picture in pictures:
            if picture.is_corrupt:
                raise ImageError("it is damaged or cut short")
            started = True
            yield picture
    _check_end(container, stream, end)


def _check_end(container: InputContainer, stream: VideoStream, end: Fraction) -> None:
    stated = stated_length(container)
    frame = 1 / (stream.average_rate or Fraction(25))
    # Some containers state the time of the end, others the length without what lies before.
    there = max(end, end - first_time(container))
    if stated is not None and there < stated - max(_LATEST_END, 2 * frame):
        raise ImageError(f"it was cut short: {float(there):.2f} of {float(stated):.2f} s are there")
