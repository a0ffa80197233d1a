"""`check_consistency`: does the result, degraded again, give the input?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dmsr_cli.consistency.calibration import UNEXPLAINED_FLOOR, UNEXPLAINED_SHARE
from dmsr_cli.consistency.damage import Planes, Verdict, judge, middle
from dmsr_cli.consistency.redegradation import redegraded
from dmsr_cli.images import Image, Samples, bleed_colour

Pixels = NDArray[np.float32]

WARNING = "this picture's damage is not of the kind the model was trained on"
MOST_DECIBELS = 99.0
"""Of a result that explains everything: infinity is no number in JSON."""
WINDOW = 7
"""Side in LR pixels of the squares over which the map is averaged."""


@dataclass(frozen=True)
class Consistency:
    """How far a result explains its input."""

    decibels: float
    """From about 40 for pictures without noise down to 25 at noise 75; lower where there is more
    to explain than the model can; at most 99."""
    map: Pixels
    """(h, w) float32: root mean square of what is not explained around each LR pixel, in terms of
    what is usual at this noise level: 1 is as expected."""
    is_in_range: bool | None
    """Whether the damage is of the kind that the models know; None if that cannot be told, as the
    picture is too small or the degradation was told by the user."""
    reason: str | None
    """What speaks against it: "blocks of 8x8: JPEG"."""

    @property
    def warning(self) -> str | None:
        """One line for people, if the damage is of another kind."""
        return f"{WARNING} ({self.reason})" if self.is_in_range is False else None


def check_consistency(
    image: Image | Pixels,
    result: Image | Samples,
    kernel: Pixels,
    noise_map: Pixels,
    scale: int,
    device: torch.device | None = None,
    *,
    is_steered: bool = False,
) -> Consistency:
    """Degrade a result again and compare it with its input.

        unexplained = LR - down(kernel * result) - a noise_map,  a in [0, 1] that leaves least
        decibels = -20 log10(RMS(unexplained)) - 40 log10(max(1, score))

    The score is that of the tests for other damage, 1 at their limit. It is in it because a network
    can explain what it does not know: a result that shows the blocks of a JPEG explains them.

    Args:
        image: the LR picture, as `pipeline.upscale` takes it.
        result: what it made of it, before any resizing.
        kernel: (K, K) that guided it, estimated or told.
        noise_map: (h, w, 3), as estimated; not as the user scaled it.
        scale: of the model.
        device: where it is degraded again; the CPU if not given.
        is_steered: whether the user told the degradation. The tests know only results that were
            guided by estimates, and say nothing then.
    """
    pixels = image.pixels if isinstance(image, Image) else image
    if isinstance(image, Image) and image.alpha is not None:
        pixels = bleed_colour(pixels, image.alpha)  # as the network saw it
    samples = result.pixels if isinstance(result, Image) else result
    residual = pixels - redegraded(samples, kernel, scale, device)
    verdict = None if is_steered else judge(_planes(pixels, residual, noise_map))
    noise_power = _mean_product(noise_map, noise_map)
    _take_off_noise(residual, noise_map, noise_power)
    unexplained = math.sqrt(_mean_product(residual, residual))
    is_in_range = None if verdict is None else verdict.score <= 1
    return Consistency(
        _decibels(unexplained, verdict),
        _map(residual, math.sqrt(noise_power)),
        is_in_range,
        verdict.seen if verdict is not None and is_in_range is False else None,
    )


def _planes(pixels: Pixels, residual: Pixels, noise_map: Pixels) -> Planes:
    rows, columns = middle(*pixels.shape[:2])
    shown, left, noise = (
        array[rows, columns].mean(axis=2) * np.float32(255)
        for array in (pixels, residual, noise_map)
    )
    return Planes(left, noise, shown - left)


def _take_off_noise(residual: Pixels, noise_map: Pixels, noise_power: float) -> None:
    """Subtract as much of the noise map as is in the residual, in place.

    Where a network takes texture for noise its restorer knows better, and leaves it in the result.
    """
    share = _mean_product(residual, noise_map) / max(noise_power, 1e-12)
    share = min(1.0, max(0.0, share))
    for row, noise in zip(residual, noise_map, strict=True):  # no copy of a large map
        row -= np.float32(share) * noise


def _mean_product(first: Pixels, second: Pixels) -> float:
    """Row by row: exact for large pictures, and without a copy of them."""
    sums = [float(np.vdot(one, other)) for one, other in zip(first, second, strict=True)]
    return math.fsum(sums) / first.size


def _decibels(unexplained: float, verdict: Verdict | None) -> float:
    beyond = 1 if verdict is None else max(1, verdict.score)
    psnr = -20 * math.log10(max(unexplained, 1e-12))
    return min(MOST_DECIBELS, psnr) - 40 * math.log10(beyond)


def _map(residual: Pixels, noise_level: float) -> Pixels:
    expected = math.hypot(UNEXPLAINED_FLOOR / 255, UNEXPLAINED_SHARE * noise_level)
    power = np.square(residual).mean(axis=2)
    averaged = F.avg_pool2d(
        torch.from_numpy(power)[None, None], WINDOW, 1, WINDOW // 2, count_include_pad=False
    )
    strength: Pixels = averaged[0, 0].sqrt_().numpy()
    strength /= np.float32(expected)
    return strength
