"""Tiles: they cover everything, and their blend changes nothing that they agree on."""

import itertools

import numpy as np
import pytest

from dmsr_cli.tiling import Box, blend_tiles, blend_weights, cut, spans

LENGTHS = (1, 2, 3, 7, 13, 17, 31, 64, 97)
TILES = ((1, 0), (2, 0), (2, 1), (5, 0), (5, 2), (5, 4), (8, 4), (16, 5), (64, 16), (1000, 16))
CASES = [(length, tile, overlap) for length in LENGTHS for tile, overlap in TILES]


def plane(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), dtype=np.float32)


def enlarged(part: np.ndarray, scale: int) -> np.ndarray:
    return part.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize(("length", "tile", "overlap"), CASES)
def test_spans_cover_and_overlap(length, tile, overlap):
    pieces = spans(length, tile, overlap)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == length
    assert {stop - start for start, stop in pieces} == {min(tile, length)}
    for (start, stop), (next_start, _) in itertools.pairwise(pieces):
        assert start < next_start
        assert stop - next_start >= overlap
    shortest = 1 if length <= tile else -(-(length - overlap) // (tile - overlap))
    assert len(pieces) == shortest


@pytest.mark.parametrize(("length", "tile", "overlap"), CASES)
def test_weights_sum_to_one(length, tile, overlap):
    pieces = spans(length, tile, overlap)
    weights = blend_weights(pieces, length)
    total = np.zeros(length)
    for (start, stop), weight in zip(pieces, weights, strict=True):
        assert weight.dtype == np.float32
        assert (weight >= 0).all()
        total[start:stop] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_tile_counts_less_near_its_edge():
    first, second = blend_weights([(0, 48), (16, 64)], 64)
    assert (first[:16] == 1).all()
    ramp = [1] * 14 + [0.875, 0.625, 0.375, 0.125] + [0] * 14
    np.testing.assert_allclose(first[16:], ramp)
    np.testing.assert_allclose(second[:32], ramp[::-1])


def test_a_gap_is_noticed():
    with pytest.raises(AssertionError, match="no tile"):
        blend_weights([(0, 4), (5, 9)], 9)


def blended(height, width, tile, overlap, scale, restore, on_progress=lambda done: None):
    """The whole result of `blend_tiles`, each pixel of which is emitted once."""
    result = np.full((height * scale, width * scale, 3), np.nan, np.float32)

    def emit(box: Box, part: np.ndarray) -> None:
        assert part.shape == (box.height, box.width, 3)
        assert np.isnan(result[box.rows, box.columns]).all()
        result[box.rows, box.columns] = part

    blend_tiles(height, width, tile, overlap, scale, restore, emit, on_progress)
    assert not np.isnan(result).any()
    return result


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(("tile", "overlap"), TILES[1:])
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (13, 31), (31, 13)])
def test_blend_reproduces(size, tile, overlap, scale):
    source, boxes = plane(*size), []

    def restore(box: Box) -> np.ndarray:
        boxes.append(box)
        assert max(box.height, box.width) <= tile
        part = source[box.rows, box.columns]
        assert part.shape == (box.height, box.width, 3)
        return enlarged(part, scale)

    result = blended(*size, tile, overlap, scale, restore)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, enlarged(source, scale), atol=1e-6)
    assert len(set(boxes)) == len(boxes)
    if tile >= max(size):
        assert boxes == [Box(0, 0, *size)]
        assert np.array_equal(result, enlarged(source, scale))


@pytest.mark.parametrize("size", [(40, 7), (7, 40)])
def test_a_band_lies_across_the_shorter_side(size):
    bands = []
    blend_tiles(
        *(*size, 8, 2, 2),
        lambda box: np.zeros((box.height * 2, box.width * 2, 3), np.float32),
        lambda box, part: bands.append(box),
    )
    assert len(bands) > 4
    assert all(14 in (band.height, band.width) for band in bands)
    assert max(min(band.height, band.width) for band in bands) <= 2 * 8


@pytest.mark.parametrize("size", [(1, 32), (32, 1)])
def test_seams_are_blended(size):
    """Tiles that disagree meet in a ramp, not in a step."""
    result = blended(
        *(*size, 24, 16, 1),
        lambda box: np.full((box.height, box.width, 3), box.left + box.top, np.float32),
    )
    steps = np.diff(result.reshape(32, 3)[:, 0])
    assert (steps >= 0).all()
    assert 0 < steps.max() <= 4 + 1e-6  # the tiles differ by 8


def test_progress():
    shares = []
    blended(
        *(9, 13, 5, 2, 1),
        lambda box: np.zeros((box.height, box.width, 3), np.float32),
        shares.append,
    )
    assert len(shares) == 3 * 4
    assert shares == sorted(set(shares))
    assert shares[-1] == 1


def test_a_failing_tile_fails_the_picture():
    def restore(box: Box) -> np.ndarray:
        if box.left > 0:
            raise MemoryError("the tile failed")
        return np.zeros((box.height * 2, box.width * 2, 3), np.float32)

    with pytest.raises(MemoryError, match="the tile failed"):
        blended(8, 20, 8, 2, 2, restore)


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_bad_overlap(overlap):
    with pytest.raises(ValueError, match="overlap"):
        spans(20, 8, overlap)


@pytest.mark.parametrize("pixels", [1, 5, 64, 100, 10_000])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (13, 31), (64, 64)])
def test_cut_covers_once(size, pixels):
    counts = np.zeros(size, int)
    boxes = cut(*size, pixels)
    for box in boxes:
        counts[box.rows, box.columns] += 1
    assert (counts == 1).all()
    assert max(box.height * box.width for box in boxes) <= pixels
    # Of pieces that are half empty there would be twice as many.
    assert len(boxes) <= 2 * -(-size[0] * size[1] // pixels)


class TestBox:
    def test_grown_as_far_as_the_plane_goes(self):
        assert Box(5, 2, 3, 4).grown(4, 20, 30) == Box(1, 0, 11, 10)
        assert Box(5, 2, 3, 4).grown(100, 20, 30) == Box(0, 0, 20, 30)
        assert Box(5, 2, 3, 4).grown(0, 20, 30) == Box(5, 2, 3, 4)

    def test_inside_is_the_same_place(self):
        source, outer = plane(20, 30), Box(1, 2, 15, 20)
        box = Box(5, 6, 3, 4)
        inner = box.inside(outer)
        part = source[outer.rows, outer.columns][inner.rows, inner.columns]
        assert np.array_equal(part, source[box.rows, box.columns])

    def test_scaled_is_the_same_place(self):
        source, box = plane(9, 11), Box(2, 3, 4, 5).scaled(3)
        part = enlarged(source, 3)[box.rows, box.columns]
        assert np.array_equal(part, enlarged(source[2:6, 3:8], 3))

    def test_transposed_is_the_same_place(self):
        source, box = plane(9, 11), Box(2, 3, 4, 5)
        turned = box.transposed()
        part = source.swapaxes(0, 1)[turned.rows, turned.columns]
        assert np.array_equal(part, source[box.rows, box.columns].swapaxes(0, 1))
