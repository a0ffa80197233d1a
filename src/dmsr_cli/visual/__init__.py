"""Pictures that show a degradation, or a result beside its input."""

from dmsr_cli.visual.comparison import comparison
from dmsr_cli.visual.degradation_pictures import kernel_picture, noise_picture
from dmsr_cli.visual.strips import StripRow, validation_strip

__all__ = [
    "StripRow",
    "comparison",
    "kernel_picture",
    "noise_picture",
    "validation_strip",
]
