"""How strongly a model follows --denoise and --kernel-width: fine detail of the result.

    python benchmarks/controls.py [MODEL]

Prints the mean absolute difference between neighbouring pixels, in levels of 255.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import dmsr_cli

SAMPLE = Path(__file__).parent.parent / "examples" / "cat_noisy.png"


def detail(pixels: NDArray[np.float32]) -> float:
    return float(np.abs(np.diff(pixels.mean(axis=2), axis=1)).mean()) * 255


def main() -> None:
    model = dmsr_cli.load_model(sys.argv[1] if len(sys.argv) > 1 else "dmsr-lite-x2", "cpu")
    pixels = dmsr_cli.read_image(SAMPLE).pixels[60:160, 80:220]
    found = dmsr_cli.estimate(pixels, model)
    print(f"{model.name}: as estimated {detail(dmsr_cli.upscale(pixels, model, found)):.2f}")
    for factor in (0, 0.5, 1, 1.5, 2):
        result = dmsr_cli.upscale(pixels, model, found.with_denoise(factor))
        print(f"denoise {factor:3g}: {detail(result):.2f}")
    for width in (0.3, 1, 2, 3):
        result = dmsr_cli.upscale(pixels, model, found.with_kernel_width(width))
        print(f"kernel width {width:3g}: {detail(result):.2f}")


if __name__ == "__main__":
    main()
