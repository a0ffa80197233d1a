"""What is copied from a clip as it is: sound and subtitles packet by packet, titles, chapters."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dmsr_cli.video.decoding import video_stream
from dmsr_cli.video.formats import Container

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer, OutputContainer
    from av.container.core import Chapter
    from av.stream import Stream

_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id")
"""Metadata of the file as such, which the new file gets from its own writer."""
_COUNTS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS", "rotate")
"""Starts of the names of what was true of a stream as it lay in the old file."""
_NEVER = Fraction(2**62)
_SPREAD = Fraction(5)
"""Seconds by which streams may be out of step in a file."""


class Companions:
    """The streams beside the pictures, on their way from one file to another."""

    def __init__(
        self,
        source: InputContainer,
        target: OutputContainer,
        container: Container,
        begin: Fraction | None,
        shift: Fraction,
    ) -> None:
        """Add a stream to `target` for each one of `source` that it takes.

        What starts before `begin` is left out; `shift` is taken from the times of the rest. Both
        are by the source's clock, as are all times here.
        """
        self._target = target
        self._begin = begin
        self._shift = shift
        self._copies: dict[int, Stream] = {}
        refused: list[str] = []
        pictures = video_stream(source)
        for stream in source.streams:
            if stream.index == pictures.index:
                continue
            if stream.type in ("audio", "subtitle") and _is_taken(stream, container):
                copy = target.add_stream_from_template(stream)
                copy.metadata.update(stream_metadata(stream))
                flags: Any = stream.disposition.value  # PyAV 16 takes only the number
                copy.disposition = flags
                self._copies[stream.index] = copy
            elif stream.type != "data" or not source.chapters():  # the titles of chapters are one
                refused.append(_words_for(stream))
        self.warnings = tuple(f"its {words} was left out" for words in dict.fromkeys(refused))
        self._packets = _packets(source, [source.streams[index] for index in self._copies])
        self._waiting: Packet[Stream] | None = None

    def copy_until(self, time: Fraction, end: Fraction | None = None) -> None:
        """Pass on packets, in the order of the file, up to the first that starts at `time`.

        Those that start at `end` or later are left out.
        """
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None:
                return
            starts = _start_of(packet)
            if starts >= time:
                return
            self._waiting = None
            if (self._begin is None or starts >= self._begin) and (end is None or starts < end):
                self._pass_on(packet)

    def copy_rest(self, end: Fraction | None) -> None:
        """Pass on all that is left and starts before `end`."""
        last = _NEVER if end is None else end + _SPREAD
        self.copy_until(last, end)

    def _pass_on(self, packet: Packet[Stream]) -> None:
        shift = round(self._shift / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = self._copies[packet.stream_index]
        self._target.mux(packet)


def _packets(source: InputContainer, streams: list[Stream]) -> Iterator[Packet[Stream]]:
    """The packets of some streams, without the empty ones that end them."""
    packets = source.demux(*streams) if streams else ()
    return (packet for packet in packets if packet.size)


def _start_of(packet: Packet[Stream]) -> Fraction:
    ticks = packet.dts if packet.pts is None else packet.pts
    return (ticks or 0) * packet.time_base


def _is_taken(stream: Stream, container: Container) -> bool:
    """A file of that kind can hold the stream: one with nothing else gets its header."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format=container.format) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _words_for(stream: Stream) -> str:
    if stream.type == "video":
        return "cover picture"
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    kind = {"audio": "sound", "subtitle": "subtitle"}.get(stream.type, f"{stream.type} stream")
    return f"{kind} ({codec})" if codec else kind


def stream_metadata(stream: Stream) -> dict[str, str]:
    """Language, title and the like."""
    return {
        name: value
        for name, value in stream.metadata.items()
        if name not in _OF_THE_FILE and not name.startswith(_COUNTS)
    }


def file_metadata(source: InputContainer) -> dict[str, str]:
    """Title, time of creation and the like; the comment under a name in lower case."""
    metadata = {name: value for name, value in source.metadata.items() if name not in _OF_THE_FILE}
    return {
        "comment" if name.lower() == "comment" else name: value for name, value in metadata.items()
    }


def chapters(source: InputContainer, shift: Fraction) -> list[Chapter]:
    """The chapters that end after `shift`, which is taken from their times."""
    kept: list[Chapter] = []
    for chapter in source.chapters():
        base = chapter["time_base"] or Fraction(1, 1000)
        ticks = round(shift / base)
        start, end = max(chapter["start"] - ticks, 0), chapter["end"] - ticks
        if end > start:
            moved: Chapter = {**chapter, "start": start, "end": end, "time_base": base}
            kept.append(moved)
    return kept
