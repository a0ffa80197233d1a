"""What a page can show of one input, in full size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.images import Image

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Exhibit:
    """An input with what was found in it, and what was made of it."""

    image: Image
    """The input; of several frames, the first."""
    kernel: Pixels
    """(K, K), in HR pixels."""
    noise_map: Pixels
    """(h, w, 3): the noise itself, on the scale of [0, 1]."""
    result: Image | None = None
    consistency_map: Pixels | None = None
    """(h, w): how far the result, degraded again, is from the input; 0 where it explains it."""
