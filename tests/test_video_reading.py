"""Reading clips: colours, rotation, times, and what is damaged."""

from __future__ import annotations

import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clips import (
    COLOURS,
    COUNT,
    FULL,
    HEIGHT,
    LIMITED,
    RATE,
    WIDTH,
    av,
    decode,
    error_of,
    long_clip,
    make_clip,
    packets_of,
    patch,
    planes_in,
    read_all,
    scene,
    sound_packets,
    upscale,
    yuv_of,
)
from dmsr_cli.video import (
    VIDEO_SUFFIXES,
    WRITABLE_VIDEO_SUFFIXES,
    VideoFrame,
    is_video,
    open_video,
)
from dmsr_cli.video.colour import Colour, planes_of_rgb, rgb_of_planes

# What is a clip


def test_suffixes():
    assert is_video("a.MP4")
    assert is_video(Path("b.webm"))
    assert not is_video("a.png")
    assert WRITABLE_VIDEO_SUFFIXES < VIDEO_SUFFIXES


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


def test_frames_that_are_too_large(tmp_path):
    path, pixels = make_clip(tmp_path / "a.mp4"), WIDTH * HEIGHT
    assert open_video(path, max_pixels=pixels).frame_count == COUNT
    message = error_of(open_video, path, max_pixels=pixels - 1)
    assert "a.mp4: " in message
    assert message.endswith(f"allow it with --max-pixels {pixels}")


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
