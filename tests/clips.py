"""Tiny clips for the tests, made and judged with PyAV alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dmsr_cli.errors import ImageError
from dmsr_cli.video import (
    VideoFrame,
    open_video,
    write_video,
)

av = pytest.importorskip("av", reason="clips need the extra dmsr-cli[video]")

WIDTH, HEIGHT, COUNT, RATE = 32, 24, 10, 25
MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
COLOURS = [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.8, 0.2, 0.1), (0.1, 0.7, 0.3), (0.2, 0.1, 0.9)]
LIMITED, FULL = 1, 2


def yuv_of(rgb: tuple[float, float, float], matrix: int, color_range: int, bits: int = 8) -> list:
    """A colour in [0, 1] as Y, Cb and Cr: the formulas of BT.601, BT.709 and BT.2020."""
    red, green, blue = rgb
    red_share, blue_share = MATRICES[matrix]
    luma = red_share * red + (1 - red_share - blue_share) * green + blue_share * blue
    differences = [(blue - luma) / (2 - 2 * blue_share), (red - luma) / (2 - 2 * red_share)]
    unit = 2 ** (bits - 8)
    if color_range == FULL:
        white = 2**bits - 1
        return [round(luma * white), *(round(d * white + 128 * unit) for d in differences)]
    return [round((luma * 219 + 16) * unit), *(round((d * 224 + 128) * unit) for d in differences)]


def planes_in(picture: av.VideoFrame, bits: int = 8) -> list[np.ndarray]:
    kind = np.uint8 if bits == 8 else np.uint16
    return [
        np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]
        for plane in picture.planes
    ]


def patch(rgb, pix_fmt="yuv420p", matrix=1, color_range=LIMITED) -> av.VideoFrame:
    """A picture of a single colour."""
    bits = 10 if "10" in pix_fmt else 8
    picture = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
    for plane, value in zip(
        planes_in(picture, bits), yuv_of(rgb, matrix, color_range, bits), strict=True
    ):
        plane[:] = value
    return picture


def scene(index: int, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """A picture whose left and top are bright, and whose brightness tells the index."""
    picture = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
    planes = planes_in(picture)
    for plane, value in zip(planes, (40 + 8 * index, 110, 140), strict=True):
        plane[:] = value
    planes[0][: HEIGHT // 4] += 60
    planes[0][:, : WIDTH // 4] += 60
    return picture


def make_clip(
    path: Path,
    pictures: list[av.VideoFrame] | None = None,
    *,
    codec: str = "libx264",
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1, 12_800),
    audio: str | None = None,
    metadata: dict[str, str] | None = None,
    chapters: list[dict] | None = None,
    **context,
) -> Path:
    pictures = pictures or [scene(index) for index in range(COUNT)]
    times = times or [round(index / RATE / time_base) for index in range(len(pictures))]
    # Without the header in front, the end of a cut file would take the header with it.
    options = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as container:
        quality = {"libx264": {"crf": "4"}, "libx265": {"x265-params": "log-level=none:crf=4"}}
        stream = container.add_stream(codec, rate=RATE, options=quality.get(codec, {}))
        stream.width, stream.height = pictures[0].width, pictures[0].height
        stream.pix_fmt = pictures[0].format.name
        stream.codec_context.time_base = time_base
        for name, value in {"color_range": LIMITED, "colorspace": 1, **context}.items():
            setattr(stream.codec_context, name, value)
        sound = container.add_stream(audio, rate=48_000) if audio else None
        container.metadata.update(metadata or {})
        container.set_chapters(chapters or [])
        for picture, time in zip(pictures, times, strict=True):
            picture.pts, picture.time_base = time, time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if sound:
            for packet in sound_packets(sound, times[-1] * time_base + Fraction(1, RATE)):
                container.mux(packet)
    return path


def sound_packets(stream, seconds: Fraction) -> Iterator[av.Packet]:
    size = stream.codec_context.frame_size or 1024
    generator = np.random.default_rng(0)
    for start in range(0, round(seconds * 48_000), size):
        kind = "int16" if stream.codec_context.format.name.startswith("s16") else "float32"
        noise = generator.uniform(-0.1, 0.1, (2, size))
        values = (noise * (32_767 if kind == "int16" else 1)).astype(kind)
        if not stream.codec_context.format.is_planar:
            values = np.ascontiguousarray(values.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(values, stream.codec_context.format.name, "stereo")
        frame.sample_rate, frame.pts = 48_000, start
        yield from stream.encode(frame)
    yield from stream.encode(None)


def doubled(frame: VideoFrame, factor: int = 2) -> VideoFrame:
    """A stand-in for the network: every pixel `factor` times in both directions."""
    pixels = frame.pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    return dataclasses.replace(frame, pixels=pixels)


def upscale(source: Path, target: Path, start=0, stop=None, factor=2, **options) -> tuple[str, ...]:
    with open_video(source) as reader:
        results = (doubled(frame, factor) for frame in reader.frames(start, stop))
        return write_video(reader, results, target, **options)


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def packets_of(path: Path, kind: str = "audio") -> list[tuple[float, bytes]]:
    """Start in seconds and content of the packets of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]


def error_of(call, *arguments, **options) -> str:
    with pytest.raises(ImageError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def read_all(path: Path, start: int = 0, stop: int | None = None) -> list[VideoFrame]:
    with open_video(path) as reader:
        return list(reader.frames(start, stop))


def long_clip(path: Path, codec: str = "libx264", size: tuple[int, int] = (32, 24)) -> Path:
    """Sixty frames of noise, so that every frame has many bytes."""
    generator = np.random.default_rng(0)
    pictures = []
    for _ in range(60):
        picture = av.VideoFrame(*size, "yuv420p")
        for plane in planes_in(picture):
            plane[:] = generator.integers(30, 220, plane.shape)
        pictures.append(picture)
    return make_clip(path, pictures, codec=codec)
