"""Drawings of a degradation: the kernel and its profile, the noise in numbers and over a photo."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dmsr_cli.pages.embedding import Bytes
from dmsr_cli.pages.markup import Markup, element

Pixels = NDArray[np.float32]

WIDTH, HEIGHT = 260, 150
"""Of a chart, in units of its drawing."""
MARGIN = 8
BASE = HEIGHT - 22
"""Where the axis lies; the numbers are below it."""
BINS = 41
"""Of a histogram: odd, so that one stands for no noise."""
REACH = 4
"""Standard deviations on each side that a histogram covers."""
MOST_SAMPLES = 2**18
"""Of a noise map that are counted; more change no bar by what can be seen."""
OVERLAY_SIDE = 160
"""The noise over a photo changes slowly: the browser enlarges it."""
OVERLAY_BLOCK = 4
"""Pixels of a small picture over which its noise is averaged at least."""
_OVERSAMPLING = 4
"""So many times the pixels of an overlay are looked at, each way."""
_NEARLY_ALL = 0.995
"""Single pixels do not decide what counts as large."""
_RED = (255, 40, 0)
_ALPHA_STEP = 8
"""Coarser steps of opacity halve the file and cannot be told apart."""


class Histogram(NamedTuple):
    """How often noise of each strength was found."""

    counts: NDArray[np.int64]
    """Of each of the bins between -reach and +reach; the outermost hold what is beyond, too."""
    reach: float
    """On the 0-255 scale."""
    level: float
    """Standard deviation of all, on the 0-255 scale."""


def kernel_picture(kernel: Pixels) -> Bytes:
    """A pixel for each tap, the largest one white: (K, K) uint8."""
    brightness = np.clip(kernel / max(float(kernel.max()), 1e-12), 0, 1)
    picture: Bytes = np.rint(brightness * 255).astype(np.uint8)
    return picture


def histogram_of(noise_map: Pixels) -> Histogram:
    """The noise of all pixels and channels (h, w, 3), counted."""
    every = max(1, noise_map.size // MOST_SAMPLES)
    values = noise_map.reshape(-1)[::every].astype(np.float64) * 255
    level = float(np.sqrt(np.mean(np.square(values))))
    reach = max(REACH * level, 1.0)
    inner = np.clip(values, -reach, reach)
    counts = np.histogram(inner, bins=BINS, range=(-reach, reach))[0]
    return Histogram(counts, reach, level)


def strength_overlay(strength: Pixels, full: float) -> Bytes:
    """How strong something is all over a picture, to lie over it.

    Args:
        strength: (h, w), not negative; averaged in squares where it is shrunk.
        full: what is drawn without any transparency.

    Returns:
        (h', w', 4) uint8: red, the more opaque the stronger, with the square, so that what is no
        stronger than all else leaves the photo to be seen; h' and w' at most 160.
    """
    height, width = strength.shape
    step = max(1, max(height, width) // (_OVERSAMPLING * OVERLAY_SIDE))
    power = np.square(strength[::step, ::step], dtype=np.float32)
    share = min(OVERLAY_SIDE / max(height, width), 1 / OVERLAY_BLOCK)
    size = max(1, round(width * share)), max(1, round(height * share))
    mean = PIL.Image.fromarray(power).resize(size, PIL.Image.Resampling.BOX)
    opacity = np.clip(np.asarray(mean) / max(full, 1e-6) ** 2, 0, 1)
    overlay = np.empty((*opacity.shape, 4), np.uint8)
    overlay[..., :3] = _RED
    overlay[..., 3] = np.rint(opacity * (255 // _ALPHA_STEP)) * _ALPHA_STEP
    return overlay


def noise_overlay(noise_map: Pixels) -> Bytes:
    """Where the noise (h, w, 3) is strong; twice the mean level hides the photo."""
    height, width = noise_map.shape[:2]
    step = max(1, max(height, width) // (_OVERSAMPLING * OVERLAY_SIDE))
    thinned = noise_map[::step, ::step]
    power = np.einsum("hwc,hwc->hw", thinned, thinned) / np.float32(3)
    level = math.sqrt(float(power.mean(dtype=np.float64)))
    return strength_overlay(np.sqrt(power), max(2 * level, 2 / 255))


def difference_overlay(difference: Pixels) -> Bytes:
    """Where a difference (h, w) from a picture is large; its largest hide the photo."""
    largest = float(np.quantile(np.abs(difference), _NEARLY_ALL))
    return strength_overlay(np.abs(difference), max(largest, 2 / 255))


def profile_chart(kernel: Pixels, width: float | None) -> Markup:
    """The kernel's middle row and middle column, and those of a Gaussian of that width."""
    side = kernel.shape[0]
    lines = {"across": kernel[side // 2], "down": kernel[:, side // 2]}
    if width:
        lines["gaussian"] = _gaussian_profile(side, width)
    highest = max(max(float(line.max()) for line in lines.values()), 1e-12)
    places = np.linspace(MARGIN, WIDTH - MARGIN, side)
    drawn = [
        element(
            "polyline",
            class_=name,
            points=" ".join(
                f"{x:.1f},{BASE - max(float(value), 0) / highest * (BASE - MARGIN):.1f}"
                for x, value in zip(places, line, strict=True)
            ),
        )
        for name, line in lines.items()
    ]
    radius = side // 2
    label = "Profile of the blur kernel, across and down, beside the nearest Gaussian"
    return _chart(label, drawn, (f"-{radius}", "0", f"+{radius} px"))


def histogram_chart(histogram: Histogram) -> Markup:
    """The counts as bars, under the bell of a Gaussian of the same level."""
    counts, reach, level = histogram
    bell = _bell(counts, reach, level)
    highest = max(float(counts.max()), max((height for _, height in bell), default=0), 1.0)
    step = (WIDTH - 2 * MARGIN) / len(counts)
    bars = "".join(
        f"M{MARGIN + number * step:.1f},{BASE}h{step - 1:.1f}"
        f"v{-count / highest * (BASE - MARGIN):.1f}h{1 - step:.1f}z"
        for number, count in enumerate(counts)
        if count
    )
    drawn = [element("path", class_="bars", d=bars)]
    if bell:
        points = " ".join(
            f"{MARGIN + (value / reach + 1) / 2 * (WIDTH - 2 * MARGIN):.1f},"
            f"{BASE - height / highest * (BASE - MARGIN):.1f}"
            for value, height in bell
        )
        drawn.append(element("polyline", class_="gaussian", points=points))
    label = f"Histogram of the noise, beside a Gaussian of level {level:.1f}"
    return _chart(label, drawn, (f"-{reach:.0f}", "0", f"+{reach:.0f}"))


def _gaussian_profile(side: int, width: float) -> Pixels:
    """The middle row of an isotropic Gaussian kernel of that standard deviation."""
    line = np.exp(-0.5 * ((np.arange(side) - side // 2) / width) ** 2)
    line /= line.sum()
    profile: Pixels = (line * line[side // 2]).astype(np.float32)
    return profile


def _bell(counts: NDArray[np.int64], reach: float, level: float) -> list[tuple[float, float]]:
    """Values, and how many of them a Gaussian would put into a bin there; none without noise."""
    if level * BINS < reach:  # narrower than a bar
        return []
    scale = float(counts.sum()) * (2 * reach / len(counts)) / (level * math.sqrt(2 * math.pi))
    values = np.linspace(-reach, reach, 81).tolist()
    return [(value, scale * math.exp(-0.5 * (value / level) ** 2)) for value in values]


def _chart(label: str, drawn: list[Markup], ticks: tuple[str, str, str]) -> Markup:
    axis = element("line", class_="axis", x1=MARGIN, x2=WIDTH - MARGIN, y1=BASE, y2=BASE)
    places = ((MARGIN, "start"), (WIDTH / 2, "middle"), (WIDTH - MARGIN, "end"))
    texts = [
        element("text", tick, x=x, y=HEIGHT - 6, text_anchor=anchor)
        for tick, (x, anchor) in zip(ticks, places, strict=True)
    ]
    box = f"0 0 {WIDTH} {HEIGHT}"
    return element(
        "svg", *drawn, axis, *texts, class_="chart", role="img", aria_label=label, viewBox=box
    )
