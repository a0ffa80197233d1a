import io
import itertools
import os

import imagecodecs
import imageio.v3 as imageio
import numpy as np
import PIL.Image
import pytest

from animations import moving, rgba
from dmsr_cli.errors import ImageError, SettingsError
from dmsr_cli.images import Frame, Image, Sequence, open_sequence, write_sequence
from pictures import SRGB, needs_posix, noise

ANIMATED = ["GIF", "PNG", "WEBP"]


def written(frames, count, format_name, **options) -> bytes:
    file = io.BytesIO()
    assert write_sequence(frames, file, count=count, format=format_name, **options) == count
    return file.getvalue()


def opened(content: bytes) -> Sequence:
    return open_sequence(io.BytesIO(content))


def plain(level: int, duration: float, size=(8, 6), alpha: float | None = None) -> Frame:
    pixels = np.full((*size, 3), level, np.uint8)
    return Frame(Image(pixels, None if alpha is None else np.full(size, alpha)), duration)


def shown_by_pillow(content: bytes) -> list[np.ndarray]:
    with PIL.Image.open(io.BytesIO(content)) as stored:
        frames = []
        for number in range(stored.n_frames):
            stored.seek(number)
            frames.append(np.array(stored.convert("RGB"), int))
    return frames


@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
@pytest.mark.parametrize("format_name", ANIMATED)
def test_frames_come_back(format_name, alpha):
    wanted = list(moving(alpha=alpha))
    with opened(written(moving(alpha=alpha), 4, format_name)) as sequence:
        found = list(sequence.frames())
    assert [frame.duration for frame in found] == [40, 50, 60, 70]
    for have, want in zip(found, wanted, strict=True):
        have, want = rgba(have).astype(int), rgba(want).astype(int)
        assert np.array_equal(have[..., 3], want[..., 3])
        seen = np.abs(have - want)[want[..., 3] > 0]
        assert seen.mean() < (0.01 if format_name == "PNG" else 4)


@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
def test_other_readers_see_the_same(alpha):
    wanted = [rgba(frame) for frame in moving(alpha=alpha)]
    content = written(moving(alpha=alpha), 4, "PNG")
    for frames in (imagecodecs.apng_decode(content), imageio.imread(content, index=...)):
        assert len(frames) == 4
        for have, want in zip(frames, wanted, strict=True):
            assert have.shape[2] == (4 if alpha else 3)
            seen = want[..., 3] > 0
            assert np.array_equal(have[seen][:, :3], want[seen][:, :3])
            assert not alpha or np.array_equal(have[..., 3], want[..., 3])
    content = written(moving(alpha=alpha), 4, "GIF")
    with opened(content) as sequence:
        ours = [rgba(frame)[..., :3] for frame in sequence.frames()]
    seen = [frame[..., 3] > 0 for frame in wanted]
    for frames in (imagecodecs.gif_decode(content), shown_by_pillow(content)):
        for have, want, where in zip(frames, ours, seen, strict=True):
            assert np.array_equal(have[where][:, :3], want[where])


@pytest.mark.parametrize("format_name", ANIMATED)
def test_identical_frames_keep_their_time(format_name):
    frames = [plain(40, 100), plain(40, 100), plain(40, 100), plain(200, 50)]
    with opened(written(iter(frames), 4, format_name)) as sequence:
        durations = [frame.duration for frame in sequence.frames()]
    assert sum(durations) == 350
    assert durations == ([300, 50] if format_name == "WEBP" else [100, 100, 100, 50])


@pytest.mark.parametrize("format_name", ANIMATED)
def test_durations_keep_their_sum(format_name):
    durations = [1000 / 30] * 30 + [0, 1234.5, 25, 25]
    frames = (plain(5 * n, duration) for n, duration in enumerate(durations))
    with opened(written(frames, len(durations), format_name)) as sequence:
        found = [frame.duration for frame in sequence.frames()]
    assert len(found) == len(durations)
    assert found[30] == 0
    step = {"GIF": 10, "WEBP": 1, "PNG": 0.01}[format_name]
    assert sum(found) == pytest.approx(sum(durations), abs=step)
    for have, want in zip(
        itertools.accumulate(found), itertools.accumulate(durations), strict=True
    ):
        assert have == pytest.approx(want, abs=step)


def test_gif_frames_do_not_become_too_short_to_be_shown():
    frames = [plain(20 * n, 1000 / 60) for n in range(6)]
    with opened(written(iter(frames), 6, "GIF")) as sequence:
        assert [frame.duration for frame in sequence.frames()] == [20] * 6
    frames = [plain(20 * n, 10) for n in range(6)]  # but what was as short stays so
    with opened(written(iter(frames), 6, "GIF")) as sequence:
        assert [frame.duration for frame in sequence.frames()] == [10] * 6


@pytest.mark.parametrize(("format_name", "most"), [("GIF", 655.35), ("PNG", 65_535)])
def test_frame_longer_than_the_format_allows(format_name, most):
    frames = [plain(1, most * 1000), plain(2, 10)]
    with opened(written(iter(frames), 2, format_name)) as sequence:
        assert next(sequence.frames()).duration == most * 1000
    with pytest.raises(ImageError, match="too long"):
        written(iter([plain(1, most * 1000 + 2000), plain(2, 10)]), 2, format_name)


@pytest.mark.parametrize("loop", [None, 0, 1, 7, 65_534])
@pytest.mark.parametrize("format_name", ANIMATED)
def test_loop_comes_back(format_name, loop):
    content = written(moving(2), 2, format_name, loop=loop)
    with opened(content) as sequence:
        assert sequence.loop == loop
    with PIL.Image.open(io.BytesIO(content)) as stored:
        plays = 0 if loop == 0 else (loop or 0) + 1
        assert stored.info.get("loop") == (loop if format_name == "GIF" else plays)


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(ANIMATED, 2)])
def test_one_format_becomes_another(first, second):
    stored = written(moving(alpha=True), 4, first, loop=3)
    with opened(stored) as source:
        before = [rgba(frame) for frame in source.frames()]
        content = written(source.frames(), source.count, second, loop=source.loop)
    with opened(content) as sequence:
        after = list(sequence.frames())
        assert sequence.loop == 3
    assert [frame.duration for frame in after] == [40, 50, 60, 70]
    for have, want in zip(map(rgba, after), before, strict=True):
        assert np.array_equal(have[..., 3], want[..., 3])
        assert np.abs(have.astype(int) - want)[want[..., 3] > 0].mean() < 5


def test_opacity_of_a_gif_is_cut_at_one_half():
    opacity = np.repeat(np.array([0, 0.2, 0.49, 0.51, 1], np.float32)[None], 4, axis=0)
    for grey in (False, True):
        frames = [
            Frame(Image(np.full((4, 5, 3), level, np.float32), opacity, grey), 100)
            for level in (0.2, 0.8)
        ]
        with opened(written(iter(frames), 2, "GIF")) as sequence:
            for frame in sequence.frames():
                assert np.array_equal(frame.image.alpha, opacity > 0.5)


def test_few_colours_stay_exact_in_a_gif():
    colours = noise(200, 3)
    frames = [
        Frame(Image(np.random.default_rng(seed).permutation(colours).reshape(10, 20, 3)), 50)
        for seed in range(3)
    ]
    with opened(written(iter(frames), 3, "GIF")) as sequence:
        for have, want in zip(sequence.frames(), frames, strict=True):
            assert np.array_equal(rgba(have)[..., :3], want.image.pixels)


def scene(grain: float, hole: bool = False):
    """A soft scene with something moving over its upper half, whose colours change."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:64, 0:96]
    base = np.stack([60 + columns, 90 + rows, 180 - columns * rows / 64], axis=2)
    for number in range(5):
        frame = base + random.normal(0, grain, base.shape)
        frame[4:24, 10 * number : 10 * number + 30] = (200, 50 * number, 40)
        alpha = None
        if hole:
            alpha = np.ones((64, 96), np.float32)
            alpha[26:30, 8 * number : 8 * number + 8] = 0
        yield Frame(Image(frame.clip(0, 255).astype(np.uint8), alpha), 50)


def flicker(frames) -> float:
    """Mean change from one frame to the next of the lower half, in levels."""
    lower = [frame[32:] for frame in frames]
    return float(np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(lower)]))


def test_still_scene_does_not_flicker_in_a_gif():
    assert flicker(shown_by_pillow(written(scene(0), 5, "GIF"))) == 0
    before = flicker([np.array(frame.image.pixels, int) for frame in scene(1)])
    assert flicker(shown_by_pillow(written(scene(1), 5, "GIF"))) < before / 2
    # Every frame is drawn anew where a hole moves.
    assert flicker(shown_by_pillow(written(scene(0, hole=True), 5, "GIF"))) < 0.1


def test_gif_follows_a_slow_change():
    levels = range(100, 160)
    frames = (Frame(Image(np.full((4, 4, 3), level, np.uint8)), 20) for level in levels)
    with opened(written(frames, 60, "GIF")) as sequence:
        for frame, level in zip(sequence.frames(), levels, strict=True):
            assert abs(int(rgba(frame)[0, 0, 0]) - level) <= 3


def test_transparency_that_comes_late_is_kept():
    frames = [plain(40, 100), plain(50, 70), plain(60, 100, alpha=0.25), plain(70, 90)]
    for format_name, opacity in (("PNG", 0.25), ("WEBP", 0.25), ("GIF", 0)):
        with opened(written(iter(frames), 4, format_name)) as sequence:
            found = list(sequence.frames())
        assert [frame.duration for frame in found] == [100, 70, 100, 90]
        assert np.allclose(found[2].image.alpha, opacity, atol=1 / 255)
        for have, level in zip(found, (40, 50, 60, 70), strict=True):
            if opacity or level != 60:
                assert abs(int(rgba(have)[0, 0, 0]) - level) <= 2


def test_grey_frames_stay_grey():
    values = [noise(9, 12, seed=seed) for seed in range(3)]
    frames = [Frame(Image(np.repeat(v[..., None], 3, axis=2), grey=True), 50) for v in values]
    with opened(written(iter(frames), 3, "PNG")) as sequence:
        for have, want in zip(sequence.frames(), values, strict=True):
            assert have.image.grey
            assert np.array_equal(rgba(have)[..., 0], want)


def test_metadata_of_the_first_frame_go_along():
    exif = PIL.Image.Exif()
    exif[305] = "camera"
    told = {"icc_profile": SRGB, "exif": b"Exif\0\0" + exif.tobytes()[6:], "dpi": (300, 300)}
    for format_name in ("PNG", "WEBP"):
        with opened(written(moving(**told), 4, format_name)) as sequence:
            image = next(sequence.frames()).image
        assert image.icc_profile == SRGB
        assert b"camera" in image.exif
        with opened(written(moving(**told), 4, format_name, metadata=False)) as sequence:
            image = next(sequence.frames()).image
        assert image.icc_profile == SRGB  # what the colours mean
        assert image.exif is None
        assert image.dpi is None
    with opened(written(moving(), 4, "GIF", comment=b"made by " + b"x" * 600)) as sequence:
        assert sequence.comment == b"made by " + b"x" * 600


def test_pages_come_back():
    sizes = [(5, 7), (20, 30), (4, 4)]
    pages = [noise(*size, 3, seed=number) for number, size in enumerate(sizes)]
    exif = PIL.Image.Exif()
    exif[305] = "scanner"
    frames = [Frame(Image(page, exif=b"Exif\0\0" + exif.tobytes()[6:]), None) for page in pages]
    content = written(iter(frames), 3, "TIFF")
    with opened(content) as sequence:
        assert sequence.is_paged
        for have, want in zip(sequence.frames(), pages, strict=True):
            assert have.duration is None
            assert np.array_equal(rgba(have)[..., :3], want)
    for number, page in enumerate(pages):
        assert np.array_equal(imageio.imread(content, index=number, plugin="tifffile"), page)


@pytest.mark.parametrize("format_name", [*ANIMATED, "TIFF"])
def test_single_frame(format_name):
    frame = next(moving())
    if format_name == "TIFF":
        frame = Frame(frame.image, None)
    with PIL.Image.open(io.BytesIO(written(iter([frame]), 1, format_name))) as stored:
        have = np.asarray(stored.convert("RGB"), int)
    assert np.abs(have - rgba(frame)[..., :3]).mean() < 5


@pytest.mark.parametrize("format_name", ANIMATED)
def test_frames_are_taken_one_by_one(format_name):
    alive = set()

    class Counted(Image):
        def __del__(self):
            alive.discard(id(self))

    most = 0

    def frames():
        nonlocal most
        for number in range(20):
            image = Counted(noise(8, 8, 3, seed=number))
            alive.add(id(image))
            yield Frame(image, 50)
            most = max(most, len(alive))
            del image

    written(frames(), 20, format_name)
    assert 1 <= most <= 3
    assert not alive


def test_reading_holds_few_frames(tmp_path):
    path = tmp_path / "a.png"
    write_sequence(moving(30), path, count=30)
    with open_sequence(path) as sequence:
        frames = sequence.frames()
        for number in range(3):
            assert next(frames).duration == 40 + 10 * number
        read = sequence._file.tell()
    assert read < path.stat().st_size / 2


# What cannot be written


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jpg", "JPEG holds one picture, not several; write .gif"),
        ("a.bmp", "BMP holds one picture"),
        ("a.xyz", "not known"),
        ("a.tif", "frames with durations cannot become TIFF pages"),
    ],
)
def test_format_that_cannot_hold_it(tmp_path, name, message):
    with pytest.raises(ImageError, match=message) as caught:
        write_sequence(moving(), tmp_path / name, count=4)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_pages_cannot_be_animated(tmp_path):
    pages = (Frame(frame.image, None) for frame in moving())
    with pytest.raises(ImageError, match="pages have no durations"):
        write_sequence(pages, tmp_path / "a.gif", count=4)


@pytest.mark.parametrize("format_name", [*ANIMATED, "TIFF"])
@pytest.mark.parametrize("count", [3, 5])
def test_wrong_count_writes_nothing(tmp_path, format_name, count):
    frames = moving() if format_name != "TIFF" else (Frame(f.image, None) for f in moving())
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(ImageError, match="missing" if count == 5 else "more frames than the 3"):
        write_sequence(frames, path, count=count, format=format_name)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("format_name", ANIMATED)
def test_frames_of_several_sizes(format_name):
    frames = [plain(1, 50), plain(2, 50, size=(9, 9))]
    with pytest.raises(ImageError, match=r"frame 1 .* another size"):
        written(iter(frames), 2, format_name)


@pytest.mark.parametrize("format_name", [*ANIMATED, "TIFF"])
@pytest.mark.parametrize("failure", [ImageError("the source failed"), KeyboardInterrupt()])
def test_failing_source_leaves_nothing(tmp_path, format_name, failure):
    def frames():
        for number, frame in enumerate(moving()):
            if number == 2:
                raise failure
            yield Frame(frame.image, None if format_name == "TIFF" else frame.duration)

    with pytest.raises(type(failure)) as caught:
        write_sequence(frames(), tmp_path / "a.bin", count=4, format=format_name)
    assert caught.value is failure
    stream = io.BytesIO()
    with pytest.raises(type(failure)):
        write_sequence(frames(), stream, count=4, format=format_name)
    assert stream.getvalue() == b""
    assert not list(tmp_path.iterdir())


def test_quality_is_checked():
    with pytest.raises(SettingsError, match="quality"):
        written(moving(), 4, "WEBP", quality=0)
    sizes = [len(written(moving(), 4, "WEBP", quality=quality)) for quality in (20, 95)]
    assert sizes[0] < sizes[1]


@needs_posix
def test_broken_target_is_one_line(tmp_path):
    with pytest.raises(ImageError, match="no folder"):
        write_sequence(moving(), tmp_path / "none" / "a.gif", count=4)
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "wb", buffering=0)
    with stream, pytest.raises(ImageError, match="cannot write"):
        write_sequence(moving(), stream, count=4, format="gif")
