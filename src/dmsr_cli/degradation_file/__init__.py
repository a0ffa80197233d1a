"""Files that say how a picture was degraded, to be edited and used again: NAME.dmsr.json.

    {"format": "dmsr-degradation", "version": 1, "scale": 4, "model": "dmsr-lite-x4",
     "source": "photo.png", "kernel_width": 1.62, "kernel": [15 rows of 15 numbers],
     "noise_level": 12.3, "noise_levels": [12.1, 12.2, 12.6], "denoise": 1.0}

What is left out stays as it is estimated. The noise map is not in it: that is the noise of one
picture. The levels of the file scale the map that is estimated in the picture at hand.
"""

from dmsr_cli.degradation_file.kernels import read_kernel
from dmsr_cli.degradation_file.reading import read_degradation
from dmsr_cli.degradation_file.settings import (
    DegradationSettings,
    mean_degradation,
)
from dmsr_cli.degradation_file.writing import SUFFIX, write_degradation

__all__ = [
    "SUFFIX",
    "DegradationSettings",
    "mean_degradation",
    "read_degradation",
    "read_kernel",
    "write_degradation",
]
