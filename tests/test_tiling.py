"""Tiles: they cover everything, and their blend changes nothing that they agree on."""

import itertools

import numpy as np
import pytest

from dmsr_cli.tiling import Box, blend_tiles, blend_weights, spans

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
    first, second = blend_weights([(0, 8), (4, 12)], 12)
    assert (first[:4] == 1).all()
    np.testing.assert_allclose(first[4:], [1, 0.75, 0.25, 0])
    np.testing.assert_allclose(second[:4], [0, 0.25, 0.75, 1])


def test_a_gap_is_noticed():
    with pytest.raises(AssertionError, match="no tile"):
        blend_weights([(0, 4), (5, 9)], 9)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(("tile", "overlap"), TILES[1:])
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (13, 31)])
def test_blend_reproduces(size, tile, overlap, scale):
    source, boxes = plane(*size), []

    def restore(box: Box) -> np.ndarray:
        boxes.append(box)
        assert max(box.height, box.width) <= tile
        part = source[box.top : box.top + box.height, box.left : box.left + box.width]
        assert part.shape == (box.height, box.width, 3)
        return enlarged(part, scale)

    result = blend_tiles(*size, tile, overlap, scale, restore)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, enlarged(source, scale), atol=1e-6)
    assert len(set(boxes)) == len(boxes)
    if tile >= max(size):
        assert boxes == [Box(0, 0, *size)]
        assert np.array_equal(result, enlarged(source, scale))


def test_seams_are_blended():
    """Tiles that disagree meet in a ramp, not in a step."""
    result = blend_tiles(
        *(1, 12, 8, 4, 1), lambda box: np.full((1, box.width, 1), box.left, np.float32)
    )
    steps = np.diff(result[0, :, 0])
    assert (steps >= 0).all()
    assert steps.max() <= 2 + 1e-6  # the tiles differ by 4


def test_progress():
    shares = []
    blend_tiles(
        *(9, 13, 5, 2, 1),
        lambda box: np.zeros((box.height, box.width, 1), np.float32),
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
        blend_tiles(8, 20, 8, 2, 2, restore)


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_bad_overlap(overlap):
    with pytest.raises(ValueError, match="overlap"):
        spans(20, 8, overlap)
