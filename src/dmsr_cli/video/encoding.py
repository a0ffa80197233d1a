"""How a clip is encoded: which encoder, pixel format, colours and clock its result gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from dmsr_cli.errors import ImageError
from dmsr_cli.video.colour import Colour, usual_matrix
from dmsr_cli.video.formats import ENCODERS, Container, Encoder
from dmsr_cli.video.reading import VideoReader

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_FULL_RANGE, _LIMITED_RANGE = 2, 1  # of FFmpeg


@dataclass(frozen=True)
class Encoding:
    """The decisions for one clip; `encoding_for` makes them."""

    container: Container
    codec: str
    name: str
    """FFmpeg's name of the encoder."""
    options: dict[str, str]
    width: int
    """Columns that are encoded, perhaps one more than the result has."""
    height: int
    pixel_format: str
    colour: Colour
    clock: Fraction
    """Seconds in which times are counted."""
    warnings: tuple[str, ...]
    """What is not as in the source, each a clause for people."""

    def add_stream(self, target: OutputContainer, reader: VideoReader) -> VideoStream:
        """A stream of `target` that is ready to encode.

        Raises:
            ImageError: the encoder does not take such pictures.
        """
        from av import FFmpegError
        from av.video.stream import VideoStream

        stream = target.add_stream(self.name, rate=reader.rate, options=self.options)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = self.width, self.height
        context.pix_fmt = self.pixel_format
        context.time_base = self.clock
        context.sample_aspect_ratio = reader.sample_aspect_ratio
        context.colorspace = self.colour.matrix
        context.color_range = _FULL_RANGE if self.colour.full_range else _LIMITED_RANGE
        context.color_primaries = self.colour.primaries
        context.color_trc = self.colour.transfer
        if self.codec == "hevc" and self.container.format in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # players of Apple know no other
        try:
            context.open()
        except (FFmpegError, ValueError) as error:
            raise ImageError(
                f"{self.name} cannot encode {self.width} x {self.height} pixels ({error})"
            ) from error
        return stream


def encoding_for(
    reader: VideoReader, container: Container, size: tuple[int, int], quality: int
) -> Encoding:
    """Decide how the result of a clip is encoded.

    Args:
        reader: the source, whose codec is kept where that can be.
        container: what it is written to.
        size: width and height of the result.
        quality: 1 to 100; at 95 the eye tells no difference.

    Raises:
        ImageError: this build of FFmpeg has no encoder for such a file.
    """
    codec, name, formats = _available(reader.codec, container, size[0])
    encoder = ENCODERS[codec]
    pixel_format, warnings = _pixel_format(encoder, formats, reader.bits)
    columns = 1 if encoder.sampling == "444" else 2
    rows = 2 if encoder.sampling == "420" else 1
    width, height = -(-size[0] // columns) * columns, -(-size[1] // rows) * rows
    if (width, height) != size:
        warnings.append(
            f"it got a line of pixels more, {width} x {height}, as players want it even"
        )
    colour = reader.colour
    if not encoder.keeps_range:
        colour = replace(colour, full_range=False)
    if not encoder.keeps_matrix and not container.keeps_colour:
        colour = replace(colour, matrix=usual_matrix(width, height))
    if reader.sample_aspect_ratio != 1 and not (encoder.keeps_aspect or container.keeps_aspect):
        warnings.append(
            f"its pixels, {reader.sample_aspect_ratio} as wide as high, are shown as squares"
        )
    options = encoder.options_at(quality)
    clock = _clock(reader, container, encoder)
    return Encoding(
        container,
        codec,
        name,
        options,
        width,
        height,
        pixel_format,
        colour,
        clock,
        tuple(warnings),
    )


def _available(source: str, container: Container, width: int) -> tuple[str, str, list[str]]:
    """Codec, encoder and its pixel formats: of the source's codec if that can be."""
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    wanted = [source] if source in container.codecs and width >= ENCODERS[source].narrowest else []
    for codec in [*wanted, *container.codecs]:
        for name in ENCODERS[codec].names:
            try:
                known = Codec(name, "w")
            except UnknownCodecError:
                continue
            return codec, name, [known.name for known in known.video_formats or []]
    raise ImageError(f"this build of FFmpeg has no encoder for {' or '.join(container.codecs)}")


def _pixel_format(encoder: Encoder, formats: list[str], bits: int) -> tuple[str, list[str]]:
    """Of the source's depth if the encoder can, and clauses about what it cannot."""
    eight, ten = f"yuv{encoder.sampling}p", f"yuv{encoder.sampling}p10le"
    if bits > 8 and ten not in formats:
        return eight, [f"it has 8 instead of {bits} bits, more than its encoder has"]
    return (ten, []) if bits > 8 or eight not in formats else (eight, [])


def _clock(reader: VideoReader, container: Container, encoder: Encoder) -> Fraction:
    rate, limit = reader.rate, encoder.largest_clock
    if container.constant_rate:
        return 1 / rate
    if limit and reader.time_base.denominator > limit:
        return 1 / (rate * max(1, limit // rate.numerator))
    return reader.time_base
