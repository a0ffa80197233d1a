"""Numbers as colours."""

from __future__ import annotations

import numpy as np
import pytest

from dmsr_cli.images import LUMA_WEIGHTS
from dmsr_cli.visual import heat_legend, heat_picture
from dmsr_cli.visual.heat import BAR_HEIGHT, STOPS, UNKNOWN


def test_more_is_lighter() -> None:
    values = np.linspace(-3, 9, 200, dtype=np.float32)[None]
    picture = heat_picture(values, -3, 9)
    assert picture.shape == (1, 200, 3)
    assert picture.dtype == np.float32
    assert (np.diff((picture @ LUMA_WEIGHTS)[0]) > 0).all()
    np.testing.assert_allclose(picture[0, [0, -1]], STOPS[[0, -1]], atol=1e-6)


def test_what_is_beyond_has_the_colour_of_the_end() -> None:
    picture = heat_picture(np.float32([[-100, 0, 5, 1e30]]), 0, 5)
    np.testing.assert_array_equal(picture[0, 0], picture[0, 1])
    np.testing.assert_array_equal(picture[0, 2], picture[0, 3])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number(value: float) -> None:
    """Infinity is beyond every end; what is no number at all is grey."""
    picture = heat_picture(np.float32([[value, 1]]), 0, 1)
    assert np.isfinite(picture).all()
    expected = [UNKNOWN] * 3 if np.isnan(value) else STOPS[-1 if value > 0 else 0]
    np.testing.assert_allclose(picture[0, 0], expected, atol=1e-6)


def test_a_range_without_extent() -> None:
    np.testing.assert_allclose(
        heat_picture(np.float32([[2, 3]]), 2, 2)[0], STOPS[[0, 0]], atol=1e-6
    )


@pytest.mark.parametrize(("width", "numbers"), [(256, 3), (140, 3), (90, 2), (40, 2), (1, 2)])
def test_the_legend_has_as_many_numbers_as_there_is_room_for(width: int, numbers: int) -> None:
    legend = heat_legend(0, 12.5, "dB", width)
    assert legend.shape[1] >= width
    bar, line = legend[:BAR_HEIGHT], legend[BAR_HEIGHT:]
    np.testing.assert_array_equal(bar[0, [0, -1]], STOPS[[0, -1]])
    ink = (line < 0.9).any(axis=(0, 2))
    gaps = np.split(np.flatnonzero(ink), np.flatnonzero(np.diff(np.flatnonzero(ink)) > 7) + 1)
    assert len(gaps) == numbers
