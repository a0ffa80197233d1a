"""dmsr: blind image super-resolution that finds out the blur and the noise of a picture.

    import dmsr_cli as dmsr
    image = dmsr.upscale(dmsr.read_image("photo.png"), dmsr.load_model("dmsr-lite-x4"))
    dmsr.write_image(image, "photo_x4.png")

Names are loaded when they are first used: importing the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmsr_cli.errors import DmsrError
    from dmsr_cli.images import Image, read_image, write_image
    from dmsr_cli.pipeline import Degradation, Model, estimate, load_model, upscale
    from dmsr_cli.pretrained import DMSR

__version__ = "0.1.0"

__all__ = [
    "DMSR",
    "Degradation",
    "DmsrError",
    "Image",
    "Model",
    "__version__",
    "estimate",
    "load_model",
    "read_image",
    "upscale",
    "write_image",
]

_HOMES = {
    "DMSR": "pretrained",
    "Degradation": "pipeline",
    "DmsrError": "errors",
    "Image": "images",
    "Model": "pipeline",
    "estimate": "pipeline",
    "load_model": "pipeline",
    "read_image": "images",
    "upscale": "pipeline",
    "write_image": "images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
