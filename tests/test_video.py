"""Clips through PyAV: what goes in comes out, judged by decoding it with PyAV alone."""

from __future__ import annotations

import dataclasses
import gc
import struct
import sys
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dmsr_cli.errors import DmsrError, ImageError, SettingsError
from dmsr_cli.video import (
    VIDEO_SUFFIXES,
    WRITABLE_VIDEO_SUFFIXES,
    VideoFrame,
    is_video,
    open_video,
    write_video,
)
from dmsr_cli.video.colour import Colour, planes_of_rgb, rgb_of_planes

av = pytest.importorskip("av", reason="clips need the extra dmsr-cli[video]")

WIDTH, HEIGHT, COUNT, RATE = 32, 24, 10, 25
MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
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


# What is a clip


def test_suffixes():
    assert is_video("a.MP4")
    assert is_video(Path("b.webm"))
    assert not is_video("a.png")
    assert WRITABLE_VIDEO_SUFFIXES < VIDEO_SUFFIXES


# Reading


def test_what_a_reader_says(tmp_path):
    path = make_clip(tmp_path / "a.mp4", audio="aac", sample_aspect_ratio=Fraction(4, 3))
    with open_video(path) as reader:
        assert (reader.width, reader.height, reader.rate) == (WIDTH, HEIGHT, RATE)
        assert (reader.frame_count, reader.has_audio, reader.codec) == (COUNT, True, "h264")
        assert (reader.bits, reader.sample_aspect_ratio) == (8, Fraction(4, 3))
        assert reader.warnings == ()
        frames = list(reader.frames())
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [frame.time for frame in frames] == [Fraction(index, RATE) for index in range(COUNT)]
    assert {frame.duration for frame in frames} == {Fraction(1, RATE)}
    assert [frame.is_last for frame in frames] == [False] * (COUNT - 1) + [True]
    assert frames[0].pixels.dtype == np.float32
    assert frames[0].pixels.shape == (HEIGHT, WIDTH, 3)
    assert frames[0].pixels.flags.c_contiguous


def test_a_range_of_frames_is_that_of_the_whole(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    whole = read_all(path)
    for start, stop in [(0, 3), (4, 7), (8, None), (9, 10), (7, 99)]:
        part = read_all(path, start, stop)
        assert [frame.index for frame in part] == list(range(COUNT))[start:stop]
        for frame in part:
            assert np.array_equal(frame.pixels, whole[frame.index].pixels)
            assert frame.duration == Fraction(1, RATE)
            assert frame.is_last == (frame.index == COUNT - 1)


COLOURS = [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.8, 0.2, 0.1), (0.1, 0.7, 0.3), (0.2, 0.1, 0.9)]


@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_colours_are_read_by_the_clips_matrix_and_range(tmp_path, matrix, color_range, pix_fmt):
    pictures = [patch(colour, pix_fmt, matrix, color_range) for colour in COLOURS]
    path = make_clip(
        tmp_path / "a.mkv", pictures, codec="ffv1", colorspace=matrix, color_range=color_range
    )
    for frame, colour in zip(read_all(path), COLOURS, strict=True):
        assert np.abs(frame.pixels - colour).max() * 255 < (0.4 if "10" in pix_fmt else 1.5)


@pytest.mark.parametrize(
    ("pix_fmt", "values"),
    [
        ("bgr0", [(30, 90, 200, 0)]),
        ("gbrp10le", [90 * 4, 30 * 4, 200 * 4]),
        ("rgb48le", [(200 * 257, 90 * 257, 30 * 257)]),
        ("gray", [120]),
        ("gray10le", [120 * 4]),
    ],
)
def test_clips_without_chroma_are_read(tmp_path, pix_fmt, values):
    picture = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
    kind = np.uint16 if pix_fmt.endswith("le") else np.uint8
    for plane, value in zip(picture.planes, values, strict=True):
        lines = np.frombuffer(memoryview(plane), kind).reshape(HEIGHT, -1)
        lines[:] = np.resize(value, lines.shape[1])
    path = make_clip(tmp_path / "a.mkv", [picture], codec="ffv1", color_range=FULL)
    with open_video(path) as reader:
        assert reader.is_grey == ("gray" in pix_fmt)
        pixels = next(reader.frames()).pixels
    white = 1020 / 1023 if "10" in pix_fmt else 1  # 4 * 255 of 1023 levels
    expected = np.array([120] * 3 if "gray" in pix_fmt else [200, 90, 30]) * white
    assert np.abs(pixels * 255 - expected).max() < 1e-3


@pytest.mark.parametrize(("size", "matrix"), [((640, 480), 6), ((1280, 16), 1), ((16, 600), 1)])
def test_a_clip_without_a_matrix_gets_the_one_players_take(tmp_path, size, matrix):
    picture = av.VideoFrame(*size, "yuv420p")
    for plane, value in zip(
        planes_in(picture), yuv_of((0.8, 0.2, 0.1), matrix, LIMITED), strict=True
    ):
        plane[:] = value
    path = make_clip(tmp_path / "a.mkv", [picture], codec="ffv1", colorspace=2)
    assert np.abs(read_all(path)[0].pixels - (0.8, 0.2, 0.1)).max() * 255 < 1.5
    upscale(path, tmp_path / "b.mp4")  # whose size alone would stand for another matrix
    assert {int(picture.colorspace) for picture in decode(tmp_path / "b.mp4")} == {matrix}


def test_chroma_lies_on_the_left_pixel():
    pixels = np.zeros((4, 16, 3), np.float32)
    pixels[:, 8:] = (1, 0, 0)
    colour = Colour(1, full_range=True)
    full = planes_of_rgb(pixels, 10, colour, (1, 1))
    half = planes_of_rgb(pixels, 10, colour, (2, 2))
    # [1, 2, 1] / 4 around columns 6 and 8, between two equal rows.
    zero, red = int(full[2][0, 0]), int(full[2][0, 15])
    expected = [zero, zero + (red - zero) * 3 / 4, red]
    assert half[2].shape == (2, 8)
    assert np.abs(half[2][0, 3:6] - expected).max() <= 1
    # A ramp of chroma comes back in its place; between the pixels it would be half a column off.
    ramp = np.linspace(0.3, 0.6, 16, dtype=np.float32)
    pixels = np.stack([np.broadcast_to(ramp, (4, 16)), *[np.full((4, 16), 0.4, np.float32)] * 2], 2)
    back = rgb_of_planes(planes_of_rgb(pixels, 16, colour, (2, 2)), 16, colour, (2, 2))
    assert np.abs(back - pixels)[:, 2:-2].max() < 1e-4


def with_matrix(path: Path, matrix: tuple[int, ...]) -> Path:
    """Put a display matrix of quarter turns into the track header of an MP4."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", content, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((1, 0, 0, 1), lambda picture: picture),
        ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),  # clockwise, as telephones do
        ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
        ((0, -1, 1, 0), lambda picture: np.rot90(picture, 1)),
        ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
        ((1, 0, 0, -1), lambda picture: picture[::-1]),
        ((0, 1, 1, 0), lambda picture: picture.transpose(1, 0, 2)),
    ],
)
def test_a_rotated_clip_is_upright_exactly_once(tmp_path, matrix, turn):
    path = make_clip(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(4, 3))
    expected = turn(read_all(path)[0].pixels)
    with_matrix(path, matrix)
    swaps = matrix[0] == 0
    with open_video(path) as reader:
        assert (reader.height, reader.width) == expected.shape[:2]
        assert reader.sample_aspect_ratio == (Fraction(3, 4) if swaps else Fraction(4, 3))
        assert np.array_equal(next(reader.frames()).pixels, expected)
    upscale(path, tmp_path / "b.mp4")
    picture = decode(tmp_path / "b.mp4")[0]
    assert picture.side_data.get("DISPLAYMATRIX") is None
    assert (picture.height, picture.width) == (2 * expected.shape[0], 2 * expected.shape[1])
    shown = read_all(tmp_path / "b.mp4")[0].pixels[::2, ::2]
    assert np.abs(shown - expected).mean() * 255 < 3


def test_another_rotation_is_left_out_with_a_warning(tmp_path):
    path = with_matrix(make_clip(tmp_path / "a.mp4"), (1, 1, -1, 1))
    with open_video(path) as reader:
        assert (reader.width, reader.height) == (WIDTH, HEIGHT)
        assert "rotation" in reader.warnings[0]


@pytest.mark.parametrize(("transfer", "kind"), [(16, "PQ"), (18, "HLG"), (1, None)])
def test_hdr_is_told_and_its_tags_are_kept(tmp_path, transfer, kind):
    picture = patch((0.5, 0.4, 0.3), "yuv420p10le", 9)
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": transfer}
    path = make_clip(tmp_path / "a.mp4", [picture] * 3, **tags)
    with open_video(path) as reader:
        assert [f"HDR ({kind})" in warning for warning in reader.warnings] == [True] * bool(kind)
    upscale(path, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert {name: int(getattr(context, name)) for name in tags} == tags
        assert context.pix_fmt == "yuv420p10le"


def test_interlaced_and_transparent_clips_are_told(tmp_path):
    interlaced = [scene(index) for index in range(4)]
    lines_in_turn = {"flags": 1 << 18, "time_base": Fraction(1, RATE), "times": [0, 1, 2, 3]}
    path = make_clip(tmp_path / "a.mkv", interlaced, codec="mpeg2video", **lines_in_turn)
    with open_video(path) as reader:
        assert any("interlaced" in warning for warning in reader.warnings)
    transparent = scene(0).reformat(format="yuva420p")
    path = make_clip(tmp_path / "b.mkv", [transparent], codec="ffv1")
    with open_video(path) as reader:
        assert any("transparency" in warning for warning in reader.warnings)


# Reading what cannot be read


def test_what_is_no_clip(tmp_path):
    path = tmp_path / "a.mp4"
    assert error_of(open_video, path).endswith("a.mp4: no such file")
    path.touch()
    assert "the file is empty" in error_of(open_video, path)
    path.write_text("not a clip\n" * 50)
    assert "is not a clip that can be read" in error_of(open_video, path)
    path.write_text("#EXTM3U\n#EXTINF:1,\nother.ts\n")
    assert "is not a clip that can be read" in error_of(open_video, path)
    (tmp_path / "b.mp4").mkdir()
    assert "it is a folder" in error_of(open_video, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "c.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=48_000)
        container.mux(list(sound_packets(sound, Fraction(1, 2))))
    assert "no moving pictures" in error_of(open_video, tmp_path / "c.mp4")


def test_a_name_like_a_protocol_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "a.mp4").rename(tmp_path / "http:b.mp4")
    assert len(read_all(Path("http:b.mp4"))) == COUNT
    (tmp_path / "c:d").mkdir()
    upscale(Path("http:b.mp4"), Path("c:d", "e.mp4"))
    assert len(decode(tmp_path / "c:d" / "e.mp4")) == COUNT


@pytest.mark.parametrize(("start", "stop"), [(10, None), (12, 14), (3, 3), (5, 2), (-1, None)])
def test_a_range_without_frames(tmp_path, start, stop):
    path = make_clip(tmp_path / "a.mp4")
    message = error_of(read_all, path, start, stop)
    assert "a.mp4: " in message
    assert ("the clip has 10" if start >= COUNT else "no frame is in the range") in message
    error_of(upscale, path, tmp_path / "b.mp4", start, stop)
    assert not (tmp_path / "b.mp4").exists()


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


@pytest.mark.parametrize("part", [0.3, 0.6, 0.75])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_clip_that_was_cut_short(tmp_path, name, part):
    path = long_clip(tmp_path / name, "mpeg4" if name == "a.avi" else "libx264")
    content = path.read_bytes()
    packet = packets_of(path, "video")[int(60 * part)][1]
    path.write_bytes(content[: content.index(packet) + len(packet) // 2])
    seen: list[VideoFrame] = []

    def read() -> None:
        with open_video(path) as reader:
            seen.extend(reader.frames())

    message = error_of(read)
    assert "cut short" in message
    assert "at frame" in message
    assert 5 < len(seen) < 50
    assert len(error_of(upscale, path, tmp_path / "b.mp4")) > 0
    assert not (tmp_path / "b.mp4").exists()
    assert len(read_all(path, 0, 5)) == 5


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "ffv1"])
def test_damage_in_the_midst_is_an_error(tmp_path, codec):
    path = long_clip(tmp_path / "a.mkv", codec, (96, 80))  # a decoder may miss it in a few blocks
    content = bytearray(path.read_bytes())
    packet = packets_of(path, "video")[30][1]
    middle = bytes(content).index(packet) + len(packet) // 4
    content[middle : middle + len(packet) // 2] = bytes(
        np.random.default_rng(1).integers(0, 256, len(packet) // 2, np.uint8)
    )
    path.write_bytes(content)
    message = error_of(read_all, path)
    assert "damaged" in message
    assert message.startswith(f"cannot read {path} at frame ")
    error_of(upscale, path, tmp_path / "b.mp4")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mkv"]


def test_a_recording_may_start_amidst_a_group_of_pictures(tmp_path):
    path = make_clip(tmp_path / "a.ts", [scene(i % 10) for i in range(60)], gop_size=20)
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 188 // 6 * 188 :])  # in whole packets of the format
    frames = read_all(path)
    assert 30 <= len(frames) < 60
    brightness = [float(frame.pixels.mean()) for frame in frames[-20:]]
    assert np.ptp(brightness) > 0.1  # of different pictures


def test_leading_packets_that_cannot_be_decoded_are_skipped(tmp_path):
    pictures = [scene(i % 10) for i in range(20)]
    whole = make_clip(tmp_path / "whole.webm", pictures, codec="libvpx-vp9", gop_size=10)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "a.webm"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        packets = [packet for packet in source.demux(video=0) if packet.size]
        assert [packet.is_keyframe for packet in packets].count(True) == 2
        for packet in packets[4:]:
            packet.stream = stream
            target.mux(packet)
    assert len(read_all(tmp_path / "a.webm")) == 10


def test_a_clip_that_starts_late_is_whole_and_starts_at_once(tmp_path):
    times = [40_000 + 512 * index for index in range(COUNT)]
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = make_clip(tmp_path / name, times=times)
        assert len(read_all(path)) == COUNT
        upscale(path, tmp_path / "b.mkv")
        assert decode(tmp_path / "b.mkv")[0].time == 0


def test_a_missing_library_is_one_line(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    assert 'pip install "dmsr-cli[video]"' in error_of(open_video, path)


# Writing


@pytest.mark.parametrize("name", ["b.mp4", "b.mov", "b.mkv", "b.ts", "b.3gp"])
def test_size_rate_times_and_sound_are_kept(tmp_path, name):
    path = make_clip(tmp_path / "a.mp4", audio="aac", sample_aspect_ratio=Fraction(4, 3))
    target = tmp_path / name
    assert upscale(path, target) == ()
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.width, stream.codec_context.height) == (64, 48)
        assert stream.average_rate == RATE
        assert stream.sample_aspect_ratio == Fraction(4, 3)
        assert stream.codec_context.codec.canonical_name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
    sources, results = decode(path), decode(target)
    times = [picture.time - results[0].time for picture in results]
    assert np.allclose(times, [picture.time for picture in sources], atol=6e-4)
    for source, result in zip(sources, results, strict=True):
        assert abs(planes_in(result)[0].mean() - planes_in(source)[0].mean()) < 1.5
    before, after = packets_of(path), packets_of(target)
    if name != "b.ts":  # which puts a header before each packet
        assert [data for _, data in after] == [data for _, data in before]
    offsets = [late - early for (early, _), (late, _) in zip(before, after, strict=True)]
    # The sound is as far from the pictures as it was.
    offset = results[0].time - sources[0].time
    assert np.abs(np.array(offsets) - offset).max() < 2e-3


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv"])
def test_a_variable_frame_rate_is_kept(tmp_path, name):
    steps = [0, 1, 2, 5, 6, 10, 20, 21, 30, 31]
    path = make_clip(tmp_path / "a.mp4", times=[512 * step for step in steps])
    upscale(path, tmp_path / name)
    results = decode(tmp_path / name)
    assert np.allclose([picture.time for picture in results], np.array(steps) / 25, atol=6e-4)


def test_a_variable_frame_rate_is_told_where_it_is_lost(tmp_path):
    steps = [0, 1, 2, 5, 6, 10, 20, 21, 30, 31]
    path = make_clip(tmp_path / "a.mp4", times=[512 * step + 200 * (step % 2) for step in steps])
    assert any("frame rate varies" in clause for clause in upscale(path, tmp_path / "b.avi"))
    even = make_clip(tmp_path / "c.mp4")
    assert upscale(even, tmp_path / "d.avi") == ()
    assert [round(picture.time * 25) for picture in decode(tmp_path / "d.avi")] == [*range(COUNT)]


@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize(("codec", "name"), [("libx264", "b.mp4"), ("libvpx-vp9", "b.webm")])
def test_colours_come_back(tmp_path, matrix, color_range, codec, name):
    tags = {"colorspace": matrix, "color_range": color_range, "color_primaries": 1, "color_trc": 13}
    pictures = [patch(colour, "yuv420p", matrix, color_range) for colour in COLOURS]
    path = make_clip(tmp_path / "a.mkv", pictures, codec="ffv1", **tags)
    with open_video(path) as reader:
        reader.codec = "h264" if codec == "libx264" else "vp9"
        write_video(reader, map(doubled, reader.frames()), tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        context = container.streams.video[0].codec_context
        assert context.codec.canonical_name == reader.codec
        assert codec != "libx264" or (context.color_primaries, context.color_trc) == (1, 13)
    results = decode(tmp_path / name)
    for colour, result, frame in zip(COLOURS, results, read_all(tmp_path / name), strict=True):
        assert int(result.colorspace) == matrix
        assert int(result.color_range) == color_range
        stored = np.array([plane.mean() for plane in planes_in(result)])
        assert np.abs(stored - yuv_of(colour, matrix, color_range)).max() < 1.5
        assert np.abs(frame.pixels.mean(axis=(0, 1)) - colour).max() * 255 <= 2


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64"])
def test_every_type_of_pixels_is_written(tmp_path, kind):
    path = make_clip(tmp_path / "a.mkv", [patch((0.5, 0.25, 0.75))], codec="ffv1")
    with open_video(path) as reader:
        frame = next(reader.frames())
        white = np.iinfo(kind).max if kind.startswith("u") else 1
        pixels = (frame.pixels * white).astype(kind)
        write_video(reader, [dataclasses.replace(frame, pixels=pixels)], tmp_path / "b.mkv")
    shown = read_all(tmp_path / "b.mkv")[0].pixels
    assert np.abs(shown - frame.pixels).max() * 255 <= 1.5


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "result"),
    [
        ("libx264", "yuv420p10le", "yuv420p10le"),
        ("libx265", "yuv420p10le", "yuv420p10le"),
        ("prores_ks", "yuv422p10le", "yuv422p10le"),
        ("ffv1", "yuv422p10le", "yuv444p10le"),
        ("libx264", "yuv444p", "yuv420p"),
    ],
)
def test_codec_and_depth_are_kept(tmp_path, codec, pix_fmt, result):
    width = 2 * WIDTH  # x265 writes beyond its memory where there are few columns
    ramp = np.linspace(0.4, 0.5, width)
    pictures = []
    for _ in range(3):
        picture = av.VideoFrame(width, HEIGHT, pix_fmt)
        bits = 10 if "10" in pix_fmt else 8
        for plane in planes_in(picture, bits):
            plane[:] = 128 << (bits - 8)
        planes_in(picture, bits)[0][:] = np.rint((16 + 219 * ramp) * 2 ** (bits - 8))
        pictures.append(picture)
    path = make_clip(
        tmp_path / "a.mov" if codec == "prores_ks" else tmp_path / "a.mkv", pictures, codec=codec
    )
    target = tmp_path / f"b{path.suffix}"
    assert upscale(path, target) == ()
    with av.open(str(target)) as container, av.open(str(path)) as source:
        context = container.streams.video[0].codec_context
        assert context.codec.name == source.streams.video[0].codec_context.codec.name
        assert context.pix_fmt == result
    if bits == 10:
        # A tenth of the range has 22 of 256 levels, and 88 of 1024.
        assert len(np.unique(planes_in(decode(path)[0], 10)[0])) > 25
        assert len(np.unique(planes_in(decode(target)[0], 10)[0])) > 25


@pytest.mark.parametrize(("width", "codec"), [(WIDTH, "h264"), (2 * WIDTH, "hevc")])
def test_pictures_too_narrow_for_an_encoder_get_another(tmp_path, width, codec):
    path = make_clip(tmp_path / "a.mkv", [av.VideoFrame(width, HEIGHT, "yuv420p")] * 2)
    with open_video(path) as reader:
        reader.codec = "hevc"
        write_video(reader, reader.frames(), tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec


def test_ten_bits_are_told_where_they_are_lost(tmp_path):
    pictures = [patch((0.5, 0.5, 0.5), "yuv420p10le")] * 2
    path = make_clip(tmp_path / "a.mkv", pictures)
    assert upscale(path, tmp_path / "b.avi") == (
        "it has 8 instead of 10 bits, more than its encoder has",
    )


def test_a_grey_clip_stays_grey(tmp_path):
    picture = av.VideoFrame(WIDTH, HEIGHT, "gray")
    planes_in(picture)[0][:] = 120
    path = make_clip(tmp_path / "a.mkv", [picture] * 3, codec="ffv1")
    with open_video(path) as reader:
        tinted = (
            dataclasses.replace(frame, pixels=frame.pixels + np.float32([0.02, 0, -0.02]))
            for frame in reader.frames()
        )
        write_video(reader, tinted, tmp_path / "b.mp4")
    for picture in decode(tmp_path / "b.mp4"):
        for chroma in planes_in(picture)[1:]:
            assert (chroma == 128).all()


@pytest.mark.parametrize(("size", "even"), [((21, 16), (64, 48)), ((20, 15), (60, 46))])
def test_odd_sides_get_one_line_more(tmp_path, size, even):
    picture = av.VideoFrame(*size, "yuv444p")
    generator = np.random.default_rng(0)
    planes_in(picture)[0][:] = generator.integers(60, 200, size[::-1])
    for plane in planes_in(picture)[1:]:
        plane[:] = 128
    path = make_clip(tmp_path / "a.mkv", [picture] * 2, codec="ffv1")
    (clause,) = upscale(path, tmp_path / "b.mp4", factor=3)
    assert f"{even[0]} x {even[1]}" in clause
    luma = planes_in(decode(tmp_path / "b.mp4")[0])[0].astype(int)
    assert luma.shape == even[::-1]
    width, height = size[0] * 3, size[1] * 3
    assert np.abs(luma[:height, width:] - luma[:height, width - 1 : width]).max(initial=0) < 25
    assert np.abs(luma[height:, :width] - luma[height - 1 : height, :width]).max(initial=0) < 25


def test_a_range_is_cut_with_its_sound(tmp_path):
    path = make_clip(tmp_path / "a.mp4", [scene(i % 10) for i in range(40)], audio="aac")
    whole = packets_of(path)
    for start, stop in [(0, 10), (12, 30), (25, None)]:
        upscale(path, tmp_path / "b.mkv", start, stop)
        results, sounds = decode(tmp_path / "b.mkv"), packets_of(tmp_path / "b.mkv")
        assert len(results) == len(range(40)[start:stop])
        begin, end = start / 25, (stop or 1000) / 25
        chosen = [(t, data) for t, data in whole if (start == 0 or t >= begin) and t < end]
        assert [data for _, data in sounds] == [data for _, data in chosen]
        shift = sounds[0][0] - chosen[0][0]
        assert abs(results[0].time - start / 25 - shift) < 2e-3
        brightness = [planes_in(picture)[0].mean() for picture in results]
        expected = [planes_in(scene(i % 10))[0].mean() for i in range(40)[start:stop]]
        assert np.abs(np.array(brightness) - expected).max() < 2


def test_sound_that_the_container_does_not_take_is_told(tmp_path):
    path = make_clip(tmp_path / "a.mp4", audio="aac")
    assert upscale(path, tmp_path / "b.webm") == ("its sound (aac) was left out",)
    with av.open(str(tmp_path / "b.webm")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert container.streams.video[0].codec_context.codec.canonical_name == "vp9"


def test_subtitles_are_copied_or_told(tmp_path):
    (tmp_path / "a.srt").write_text("1\n00:00:00,080 --> 00:00:00,200\nHello\n\n")
    silent = make_clip(tmp_path / "silent.mkv")
    path = tmp_path / "a.mkv"
    with (
        av.open(str(silent)) as pictures,
        av.open(str(tmp_path / "a.srt")) as texts,
        av.open(str(path), "w") as target,
    ):
        sources = [pictures.streams.video[0], texts.streams.subtitles[0]]
        streams = [target.add_stream_from_template(source, opaque=True) for source in sources]
        streams[1].metadata["language"] = "eng"
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.container.demux(source):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
    assert upscale(path, tmp_path / "b.mkv") == ()
    assert packets_of(tmp_path / "b.mkv", "subtitle") == packets_of(path, "subtitle")
    assert packets_of(path, "subtitle")[0] == (0.08, b"Hello")
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.streams.subtitles[0].language == "eng"
    assert upscale(path, tmp_path / "b.mp4") == ("its subtitle (subrip) was left out",)


def test_metadata_and_chapters_are_carried(tmp_path):
    chapter = {"id": 0, "start": 0, "end": 200, "time_base": Fraction(1, 1000)}
    path = make_clip(
        tmp_path / "a.mp4",
        audio="aac",
        metadata={"title": "A day", "creation_time": "2020-01-02T03:04:05.000000Z", "comment": "c"},
        chapters=[{**chapter, "metadata": {"title": "Start"}}],
    )
    assert upscale(path, tmp_path / "b.mp4", note="made by a test") == ()
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.metadata["title"] == "A day"
        assert container.metadata["creation_time"] == "2020-01-02T03:04:05.000000Z"
        assert container.metadata["comment"] == "c; made by a test"
        (kept,) = container.chapters()
        assert kept["metadata"]["title"] == "Start"
        assert kept["end"] * kept["time_base"] == Fraction(1, 5)
    upscale(path, tmp_path / "c.mp4", note="made by a test", strip=True)
    with av.open(str(tmp_path / "c.mp4")) as container:
        assert "title" not in container.metadata
        assert "creation_time" not in container.metadata
        assert container.metadata["comment"] == "made by a test"
        assert container.chapters() == []


def test_a_title_that_is_no_utf8_is_no_obstacle(tmp_path):
    source = make_clip(tmp_path / "a.mkv", metadata={"title": "Any title"})
    source.write_bytes(source.read_bytes().replace(b"Any title", b"\xc9t\xe9 1998x"))
    assert upscale(source, tmp_path / "b.mkv") == ()
    assert len(decode(tmp_path / "b.mkv")) == len(read_all(source))


def test_quality_decides_the_size(tmp_path):
    path = long_clip(tmp_path / "a.mkv")
    sizes = []
    for quality in (1, 50, 95, 100):
        upscale(path, tmp_path / "b.mp4", quality=quality)
        sizes.append((tmp_path / "b.mp4").stat().st_size)
    assert sizes == sorted(set(sizes))
    for quality in (0, 101):
        with pytest.raises(SettingsError, match="quality"):
            upscale(path, tmp_path / "c.mp4", quality=quality)


# Memory, interruptions, errors


def test_only_a_few_frames_are_alive(tmp_path):
    path = make_clip(tmp_path / "a.mp4", [scene(i % 10) for i in range(60)])
    alive: weakref.WeakSet[VideoFrame] = weakref.WeakSet()
    most = 0

    def counted(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        nonlocal most
        for frame in frames:
            result = doubled(frame)
            alive.update([frame, result])
            most = max(most, len(alive))
            yield result
            del frame, result

    gc.collect()
    with open_video(path) as reader:
        write_video(reader, counted(reader.frames()), tmp_path / "b.mp4")
    assert len(decode(tmp_path / "b.mp4")) == 60
    assert most <= 6


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError, DmsrError, SystemExit])
@pytest.mark.parametrize("at", [0, 1, 8])
def test_an_exception_in_the_frames_leaves_nothing_and_passes(tmp_path, kind, at):
    path = make_clip(tmp_path / "a.mp4", audio="aac")
    (tmp_path / "b.mp4").write_text("old")

    def failing(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            if frame.index == at:
                raise kind("stop")
            yield frame

    with open_video(path) as reader, pytest.raises(kind, match=r"^stop$"):
        write_video(reader, failing(reader.frames()), tmp_path / "b.mp4")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    assert (tmp_path / "b.mp4").read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
def test_a_full_disk_leaves_nothing(tmp_path):
    import resource

    path = long_clip(tmp_path / "a.mkv")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(DmsrError, match=r"^cannot write .*b\.mp4: File too large$"):
            upscale(path, tmp_path / "b.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mkv"]


def test_what_cannot_be_written(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    message = error_of(upscale, path, tmp_path / "b.wmv")
    assert "'.wmv'" in message
    assert all(suffix in message for suffix in WRITABLE_VIDEO_SUFFIXES)
    with pytest.raises(DmsrError, match="there is no folder"):
        upscale(path, tmp_path / "missing" / "b.mp4")
    with open_video(path) as reader:
        frames = list(reader.frames())
        assert "no frames" in error_of(write_video, reader, [], tmp_path / "b.mp4")
        for pixels, reason in [
            (np.full((48, 64, 3), np.nan), "not finite"),
            (np.zeros((48, 64)), "height x width x 3"),
            (np.zeros((48, 64, 3), np.int32), "uint8 or uint16"),
            (np.zeros((46, 64, 3)), "64 x 46 pixels"),
            (np.zeros((2, 20_000, 3), np.uint8), "20000 x 2 pixels"),
        ]:
            bad = dataclasses.replace(frames[1], pixels=pixels)
            results = [bad] if pixels.shape[1] == 20_000 else [doubled(frames[0]), bad]
            message = error_of(write_video, reader, results, tmp_path / "b.mp4")
            assert message.startswith(f"cannot write {tmp_path / 'b.mp4'}: ")
            assert reason in message
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_encoders_and_decoders_are_silent(tmp_path, capfd):
    for codec, name in [
        ("libx264", "a.mp4"),
        ("libvpx-vp9", "c.webm"),
        ("mpeg4", "d.avi"),
    ]:
        make_clip(tmp_path / name, codec=codec)
        upscale(tmp_path / name, tmp_path / f"result{Path(name).suffix}")
    for codec in ("hevc", "av1"):
        with open_video(tmp_path / "a.mp4") as reader:
            reader.codec = codec
            write_video(reader, map(doubled, reader.frames()), tmp_path / "f.mkv")
    damaged = long_clip(tmp_path / "g.mp4")
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    error_of(read_all, damaged)
    assert capfd.readouterr() == ("", "")
