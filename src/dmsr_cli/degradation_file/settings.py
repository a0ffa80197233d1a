"""What a degradation file says, and what it makes of an estimate; the mean of several."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.degradation_file.kernels import Pixels, normalised
from dmsr_cli.errors import SettingsError

if TYPE_CHECKING:
    from dmsr_cli.pipeline import Degradation

Levels = float | tuple[float, float, float]
"""Of noise: of all channels together, or of each."""


@dataclass(frozen=True, eq=False)
class DegradationSettings:
    """What a file says of a degradation; None is what it leaves to the estimate."""

    scale: int | None = None
    """That the kernel belongs to."""
    kernel: Pixels | None = None
    """(K, K) float32, sums to 1."""
    kernel_width: float | None = None
    """Of a Gaussian, in HR pixels; what counts where there is no kernel."""
    noise_level: float | None = None
    """On the 0-255 scale; what counts where there are no `noise_levels`."""
    noise_levels: tuple[float, float, float] | None = None
    """The same of red, green and blue."""
    denoise: float = 1.0
    """What the noise map is multiplied with in the end."""

    def apply(self, found: Degradation) -> Degradation:
        """An estimate with what the file says in its place."""
        if self.kernel is not None:
            found = dataclasses.replace(found, kernel=self.kernel)
        elif self.kernel_width is not None:
            found = found.with_kernel_width(self.kernel_width)
        if self.noise_levels is not None:
            found = _with_noise_levels(found, self.noise_levels, found.noise_levels)
        elif self.noise_level is not None:
            found = _with_noise_levels(found, self.noise_level, found.noise_level)
        return found if self.denoise == 1 else found.with_denoise(self.denoise)

    @property
    def sha256(self) -> str:
        """Of what it says, not of how the file is written."""
        values = dataclasses.asdict(self)
        if self.kernel is not None:
            values["kernel"] = self.kernel.tolist()
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def mean_degradation(found: Iterable[Degradation]) -> Degradation:
    """What pictures of one camera have in common: the mean kernel, and the rms of the noise.

    Args:
        found: estimates of at least one picture, all for one scale; each is needed only once.

    Returns:
        A degradation for `write_degradation`. Its noise map is a single pixel that has the level
        of each channel, because pictures share no other noise.

    Raises:
        SettingsError: there is none, or kernels of several sizes.
    """
    kernels: list[NDArray[np.float64]] = []
    squares = []
    one = None
    for one in found:
        kernels.append(one.kernel.astype(np.float64))
        squares.append(np.square(one.noise_levels))
    if one is None or len({kernel.shape for kernel in kernels}) != 1:
        raise SettingsError("a mean needs estimates of one kernel size, and at least one of them")
    levels = np.sqrt(np.mean(squares, axis=0)) / 255
    noise_map = levels.astype(np.float32).reshape(1, 1, 3)
    kernel = normalised(np.mean(kernels, axis=0))
    return dataclasses.replace(one, kernel=kernel, noise_map=noise_map)


def _with_noise_levels(found: Degradation, wanted: Levels, present: Levels) -> Degradation:
    """The noise map scaled to a level, or each channel to its own."""
    # What has no noise has no pattern to scale and stays as it is.
    factors = np.array(wanted) / np.maximum(present, 1e-6)
    return dataclasses.replace(found, noise_map=found.noise_map * factors.astype(np.float32))
