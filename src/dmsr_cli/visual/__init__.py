"""Pictures that show a degradation, or a result beside its input."""

from dmsr_cli.visual.comparison import COMPARISONS
from dmsr_cli.visual.degradation_pictures import kernel_picture, noise_picture
from dmsr_cli.visual.heat import heat_legend, heat_picture
from dmsr_cli.visual.noise_overlay import noise_overlay
from dmsr_cli.visual.strips import StripRow, validation_strip

__all__ = [
    "COMPARISONS",
    "StripRow",
    "heat_legend",
    "heat_picture",
    "kernel_picture",
    "noise_overlay",
    "noise_picture",
    "validation_strip",
]
