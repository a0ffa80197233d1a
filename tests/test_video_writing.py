"""Writing clips: what goes in comes out, judged by decoding it with PyAV alone."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
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
    doubled,
    error_of,
    long_clip,
    make_clip,
    packets_of,
    patch,
    planes_in,
    read_all,
    scene,
    upscale,
    yuv_of,
)
from dmsr_cli.errors import DmsrError, SettingsError
from dmsr_cli.video import (
    WRITABLE_VIDEO_SUFFIXES,
    VideoFrame,
    open_video,
    write_video,
)


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
    picture = av.VideoFrame(width, HEIGHT, "yuv420p")
    for plane in planes_in(picture):
        plane[:] = 128  # else it is whatever the memory held
    path = make_clip(tmp_path / "a.mkv", [picture] * 2)
    with open_video(path) as reader:
        reader.codec = "hevc"
        write_video(reader, reader.frames(), tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["b.mkv", "b.mp4", "b.ts"])
def test_the_times_of_a_short_hevc_clip_owe_nothing_to_what_the_memory_held(tmp_path, name, count):
    picture = av.VideoFrame(2 * WIDTH, HEIGHT, "yuv420p")
    for plane in planes_in(picture):
        plane[:] = 128
    path = make_clip(tmp_path / "a.mkv", [picture] * count)
    target = tmp_path / name
    script = (
        "import sys; from dmsr_cli.video import open_video, write_video\n"
        "with open_video(sys.argv[1]) as reader:\n"
        "    reader.codec = 'hevc'\n"
        "    write_video(reader, reader.frames(), sys.argv[2])\n"
    )
    # GNU's C library then fills what is allocated; x265 would decode such clips after showing them.
    environment = os.environ | {"MALLOC_PERTURB_": "1"}
    subprocess.run([sys.executable, "-c", script, path, target], check=True, env=environment)
    times = [float(picture.time) for picture in decode(target)]
    assert len(times) == count
    assert np.allclose(np.diff(times), 1 / 25, atol=6e-4)


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
