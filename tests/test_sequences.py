import io
import itertools

import numpy as np
import PIL.Image
import pytest
import tifffile

from animations import BLUE, COLOURS, GREEN, RED, SIZE, WHOLE, Drawn, apng, coloured, gif, rgba
from dmsr_cli.errors import ImageError
from dmsr_cli.images import open_sequence, read_image
from pictures import SRGB, check_contract, noise, smooth


def shown(content: bytes) -> list[np.ndarray]:
    with open_sequence(io.BytesIO(content)) as sequence:
        return [rgba(frame) for frame in sequence.frames()]


def canvas(*fills) -> np.ndarray:
    """(left, top, right, bottom), colour: one after the other on a transparent canvas."""
    values = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    for (left, top, right, bottom), colour in fills:
        values[top:bottom, left:right] = COLOURS[colour]
    return values


def check_shown(content: bytes, *expected: np.ndarray) -> None:
    found = shown(content)
    assert len(found) == len(expected)
    for number, (have, want) in enumerate(zip(found, expected, strict=True)):
        assert np.array_equal(have, want), number


LEFT, RIGHT = (0, 1, 2, 3), (4, 1, 6, 3)


def test_gif_piece_stays_below_the_next():
    for disposal in (0, 1):
        content = gif(Drawn(WHOLE, RED), Drawn(LEFT, GREEN, disposal), Drawn(RIGHT, BLUE))
        below = ((WHOLE, RED), (LEFT, GREEN))
        check_shown(content, canvas((WHOLE, RED)), canvas(*below), canvas(*below, (RIGHT, BLUE)))


@pytest.mark.parametrize("see_through", [True, False], ids=["see-through", "opaque"])
def test_gif_cleared_piece_leaves_a_hole(see_through):
    # Pillow fills it with a colour if the first frame has no transparency.
    drawn = [Drawn(WHOLE, RED), Drawn(LEFT, GREEN, 2), Drawn(RIGHT, BLUE)]
    for piece in drawn:
        piece.see_through = see_through
    last = canvas((WHOLE, RED), (LEFT, 0), (RIGHT, BLUE))
    check_shown(gif(*drawn), canvas((WHOLE, RED)), canvas((WHOLE, RED), (LEFT, GREEN)), last)


def test_gif_restored_piece_shows_what_was_below():
    content = gif(Drawn(WHOLE, RED), Drawn(LEFT, GREEN, 3), Drawn(RIGHT, BLUE))
    last = canvas((WHOLE, RED), (RIGHT, BLUE))
    check_shown(content, canvas((WHOLE, RED)), canvas((WHOLE, RED), (LEFT, GREEN)), last)


def test_gif_disposal_is_not_handed_on_to_a_frame_without_one():
    content = gif(Drawn(WHOLE, RED), Drawn(LEFT, GREEN, 2), Drawn(LEFT, BLUE), Drawn(RIGHT, GREEN))
    cleared = canvas((WHOLE, RED), (LEFT, BLUE), (RIGHT, GREEN))
    assert np.array_equal(shown(content)[3], cleared)


def test_gif_first_piece_may_be_a_part():
    check_shown(
        gif(Drawn(LEFT, RED, see_through=False), Drawn(RIGHT, BLUE)),
        canvas((LEFT, RED)),
        canvas((LEFT, RED), (RIGHT, BLUE)),
    )
    # The first one disposed of leaves nothing, whichever way.
    for disposal in (2, 3):
        content = gif(Drawn(WHOLE, RED, disposal), Drawn(RIGHT, BLUE))
        assert np.array_equal(shown(content)[1], canvas((RIGHT, BLUE)))


def test_gif_see_through_pixel_shows_the_one_below():
    content = gif(Drawn(WHOLE, RED), Drawn(LEFT, GREEN, hole=(0, 0)))
    assert np.array_equal(
        shown(content)[1], canvas((WHOLE, RED), (LEFT, GREEN), ((0, 1, 1, 2), RED))
    )


def test_gif_of_greys_in_order_keeps_its_transparency():
    palette = np.arange(4, dtype=np.uint8).repeat(3).tobytes()  # Pillow takes it for none
    first, second = shown(gif(Drawn(WHOLE, 2, 2), Drawn(LEFT, 3, hole=(0, 0)), palette=palette))
    assert (first == (2, 2, 2, 255)).all()
    assert second[1, 1].tolist() == second[2, 0].tolist() == [3, 3, 3, 255]
    assert second[..., 3].sum() == 3 * 255


def test_apng_pieces_are_laid_over_with_their_opacity():
    below, half = coloured(*SIZE, 200, 0, 0, 255), coloured(2, 2, 0, 0, 200, 128)
    over, source = (
        shown(apng((below, (0, 0), 0, 0, 10), (half, (1, 1), 0, blending, 10)))[1]
        for blending in (1, 0)
    )
    assert np.abs(over[1, 1].astype(int) - (100, 0, 100, 255)).max() <= 1
    assert source[1, 1].tolist() == [0, 0, 200, 128]
    assert over[0, 0].tolist() == source[0, 0].tolist() == [200, 0, 0, 255]
    # Over nothing, it is itself.
    nothing = coloured(*SIZE, 0, 0, 0, 0)
    alone = shown(apng((nothing, (0, 0), 0, 0, 10), (half, (1, 1), 0, 1, 10)))[1]
    assert np.abs(alone[1, 1].astype(int) - (0, 0, 200, 128)).max() <= 1


def test_apng_pieces_are_disposed_of():
    red, green = coloured(*SIZE, 255, 0, 0, 255), coloured(2, 2, 0, 255, 0, 255)
    blue = coloured(2, 2, 0, 0, 255, 255)
    for disposal, below in ((0, GREEN), (1, 0), (2, RED)):
        content = apng(
            (red, (0, 0), 0, 0, 10), (green, (0, 1), disposal, 0, 10), (blue, (4, 1), 0, 1, 10)
        )
        last = canvas((WHOLE, RED), (LEFT, below), (RIGHT, BLUE))
        check_shown(content, canvas((WHOLE, RED)), canvas((WHOLE, RED), (LEFT, GREEN)), last)


def test_hidden_still_of_an_apng_is_no_frame():
    hidden, green = coloured(*SIZE, 9, 9, 9, 255), coloured(2, 2, 0, 255, 0, 255)
    blue = coloured(2, 2, 0, 0, 255, 255)
    content = apng((green, (0, 1), 0, 1, 10), (blue, (4, 1), 0, 1, 20), hidden=hidden)
    check_shown(content, canvas((LEFT, GREEN)), canvas((LEFT, GREEN), (RIGHT, BLUE)))
    with open_sequence(io.BytesIO(content)) as sequence:
        assert [frame.duration for frame in sequence.frames()] == [100, 200]


def test_grey_apng_stays_grey():
    frames = [np.full((4, 6), level, np.uint8) for level in (10, 200)]
    content = apng(*((values, (0, 0), 0, 0, 10) for values in frames))
    with open_sequence(io.BytesIO(content)) as sequence:
        for frame, level in zip(sequence.frames(), (10, 200), strict=True):
            assert frame.image.grey
            assert frame.image.alpha is None
            assert np.allclose(frame.image.pixels * 255, level)


def webp(**options) -> bytes:
    frames = [PIL.Image.fromarray(noise(9, 12, 4, seed=seed)) for seed in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True, **options)
    return file.getvalue()


def test_webp_frames_are_those_of_libwebp():
    content = webp(duration=[30, 70, 110], loop=4)
    for number, values in enumerate(shown(content)):
        stored = noise(9, 12, 4, seed=number)
        stored[stored[..., 3] == 0] = 0
        assert np.array_equal(values, stored)
    with open_sequence(io.BytesIO(content)) as sequence:
        assert [frame.duration for frame in sequence.frames()] == [30, 70, 110]
        assert (sequence.format, sequence.count, sequence.loop) == ("WEBP", 3, 3)


@pytest.mark.parametrize("stored", [None, 0, 1, 7])
def test_gif_loop_is_told_as_it_is(stored):
    content = gif(Drawn(WHOLE, RED), Drawn(WHOLE, BLUE), loop=stored, comment=b"by hand")
    with open_sequence(io.BytesIO(content)) as sequence:
        assert sequence.loop == stored
        assert sequence.comment == b"by hand"
        assert not sequence.is_paged


@pytest.mark.parametrize(("plays", "loop"), [(0, 0), (1, None), (2, 1), (9, 8)])
def test_plays_of_other_formats_are_one_more_than_loops(plays, loop):
    red = coloured(*SIZE, 255, 0, 0, 255)
    content = apng((red, (0, 0), 0, 0, 10), (red // 2, (0, 0), 0, 0, 10), loop=plays)
    for stored in (content, webp(loop=plays)):
        with open_sequence(io.BytesIO(stored)) as sequence:
            assert sequence.loop == loop


def test_range_of_frames():
    content = gif(*(Drawn(LEFT if n % 2 else WHOLE, 1 + n % 3, duration=10 * n) for n in range(6)))
    everything = shown(content)
    with open_sequence(io.BytesIO(content)) as sequence:
        for start, stop in itertools.combinations(range(7), 2):
            frames = list(sequence.frames(start, stop))
            assert [frame.duration for frame in frames] == [10 * n for n in range(start, stop)]
            for frame, whole in zip(frames, everything[start:stop], strict=True):
                assert np.array_equal(rgba(frame), whole)
        for start, stop in ((2, 2), (-1, 2), (3, 7), (4, 1)):
            with pytest.raises(ImageError, match="has 6 frames"):
                sequence.frames(start, stop)


def test_every_frame_is_turned_and_described():
    exif = PIL.Image.Exif()
    exif[274], exif[305] = 6, "camera"
    content = webp(exif=exif.tobytes(), icc_profile=SRGB)
    with open_sequence(io.BytesIO(content)) as sequence:
        for number, frame in enumerate(sequence.frames()):
            check_contract(frame.image)
            assert (frame.image.height, frame.image.width) == (12, 9)
            assert frame.image.icc_profile == SRGB
            assert b"camera" in frame.image.exif
            stored = np.rot90(noise(9, 12, 4, seed=number), -1)[..., 3]
            assert np.array_equal(np.rint(frame.image.alpha * 255), stored)


def test_stills_and_others_are_none(tmp_path):
    still = PIL.Image.fromarray(noise(5, 6, 3))
    for format_name in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        file = io.BytesIO()
        still.save(file, format_name)
        file.seek(0)
        assert open_sequence(file) is None
        assert file.tell() == 0
        assert not file.closed
    assert open_sequence(io.BytesIO(b"")) is None
    assert open_sequence(io.BytesIO(b"no picture")) is None
    assert open_sequence(tmp_path / "none.gif") is None
    assert open_sequence(tmp_path) is None
    photo = io.BytesIO()
    still.save(photo, "MPO", save_all=True, append_images=[still])
    assert open_sequence(photo) is None


def test_file_is_closed(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif(Drawn(WHOLE, RED), Drawn(WHOLE, BLUE)))
    with open_sequence(path) as sequence:
        assert len(list(sequence.frames())) == 2
    with pytest.raises(ImageError, match=r"a\.gif"):
        next(sequence.frames())


# Pages


def pages_file(path, *pages, **options):
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            photometric = "rgb" if page.ndim == 3 else "minisblack"
            writer.write(page, photometric=photometric, metadata=None, **options)
    return path


@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_pages_have_their_own_size_and_depth(tmp_path, compression):
    deep = (smooth(20, 30) * 65_535).astype(np.uint16)
    grey = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    stored = [noise(5, 7, 3), deep, noise(4, 4), grey, noise(3, 9, 4)]
    path = pages_file(tmp_path / "a.tif", *stored, compression=compression)
    with open_sequence(path) as sequence:
        assert (sequence.count, sequence.is_paged, sequence.loop) == (5, True, None)
        for start in (0, 3):
            frames = list(sequence.frames(start))
            for frame, values in zip(frames, stored[start:], strict=True):
                assert frame.duration is None
                check_contract(frame.image)
                white = np.iinfo(values.dtype).max
                colours = values if values.ndim == 2 else values[..., :3]
                found = frame.image.pixels[..., 0] if values.ndim == 2 else frame.image.pixels
                assert np.array_equal(np.rint(found * white), colours)
                assert frame.image.grey == (values.ndim == 2)
                if values.ndim == 3:  # deep grey says so, too, once stills do
                    assert frame.image.depth == values.itemsize * 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_page_is_turned_like_a_shallow_one(tmp_path, orientation):
    tag = [(274, 3, 1, orientation, False)]
    shallow, deep = noise(5, 7, 3), noise(5, 7, 3).astype(np.uint16) * 257
    path = pages_file(tmp_path / "a.tif", shallow, deep, extratags=tag)
    with open_sequence(path) as sequence:
        first, second = (frame.image.pixels for frame in sequence.frames())
    assert np.array_equal(first, read_image(path).pixels)
    assert np.allclose(first, second, atol=1e-6)


def test_deep_page_keeps_its_alpha(tmp_path):
    deep = np.zeros((4, 5, 4), np.uint16)
    deep[...] = (10_000, 20_000, 30_000, 40_000)
    for kind, colour in (("unassalpha", 10_000 / 65_535), ("assocalpha", 0.25)):
        path = pages_file(tmp_path / f"{kind}.tif", deep, deep, extrasamples=[kind])
        with open_sequence(path) as sequence:
            for frame in sequence.frames():
                assert np.allclose(frame.image.alpha, 40_000 / 65_535)
                assert np.allclose(frame.image.pixels[..., 0], colour, atol=1e-4)


def test_small_copies_are_no_pages(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise(16, 16, 3), photometric="rgb", metadata=None)
        writer.write(noise(8, 8, 3), photometric="rgb", metadata=None, subfiletype=1)
    assert open_sequence(path) is None
    with tifffile.TiffWriter(path, append=True) as writer:
        writer.write(noise(12, 10, 3), photometric="rgb", metadata=None)
    with open_sequence(path) as sequence:
        sizes = [(frame.image.height, frame.image.width) for frame in sequence.frames()]
        assert sizes == [(16, 16), (12, 10)]
        assert "small copies" in sequence.warnings[0]
