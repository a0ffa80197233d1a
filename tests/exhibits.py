"""Exhibits for pages: small pictures with a degradation that somebody could have estimated."""

from __future__ import annotations

from typing import Any

import numpy as np

from dmsr_cli.images import Image
from dmsr_cli.pages import Exhibit
from pictures import smooth

HOSTILE_NAMES = [
    "<script>document.title='taken'</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    "</td></table></title><h1>gone.png",
    "javascript:alert(1)&amp;.png",
    "not in UTF-8 \udcff\udcfe.png",
    "back\u202egnp.and forth\n.png",
]


def gaussian(width: float, size: int = 15) -> np.ndarray:
    line = np.exp(-0.5 * ((np.arange(size) - size // 2) / width) ** 2)
    kernel = np.outer(line, line)
    return (kernel / kernel.sum()).astype(np.float32)


def exhibit(
    height: int = 40, width: int = 56, *, scale: int | None = None, level: float = 10, **more: Any
) -> Exhibit:
    """A picture with noise of a level of 255, stronger on the right; with a result if scaled."""
    pixels = smooth(height, width)
    noise = np.random.default_rng(0).standard_normal(pixels.shape) * level / 255
    noise *= np.linspace(0.5, 1.5, width)[:, None]
    result = None if scale is None else Image(smooth(height * scale, width * scale))
    image = Image((pixels + noise).clip(0, 1).astype(np.float32), **more)
    return Exhibit(image, gaussian(1.3), noise.astype(np.float32), result)


def record(name: str = "a.png", **more: Any) -> dict[str, Any]:
    return {
        **{"input": name, "status": "ok", "error": None, "scale": 4, "warnings": []},
        **{"width": 56, "height": 40, "kernel_width": 1.3, "noise_level": 10.0},
        **more,
    }
