"""Small pictures, and what every picture that was read must fulfil."""

import sys
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from dmsr_cli.errors import ImageError
from dmsr_cli.images import Image
from dmsr_cli.images.formats import format_of_suffix, prepare

SIZES = [(1, 1), (1, 17), (17, 1), (13, 7)]
LOSSLESS = [".png", ".tif", ".tiff", ".bmp"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = imagecodecs.cms_profile("gray", gamma=2.2)
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int = 40, width: int = 56) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows / height, columns / width, (rows + columns) / (height + width)]
    return np.stack(planes, axis=2).astype(np.float32)


def save(path: Path, array: np.ndarray, **options) -> Path:
    known = format_of_suffix(path.suffix)
    if known is not None:
        prepare(known)  # whatever test comes first
    PIL.Image.fromarray(array).save(path, **options)
    return path


def bytes_of(image: Image) -> np.ndarray:
    return np.rint(image.pixels * 255).astype(np.uint8)


def error_of(call, path: Path, *arguments, **options) -> str:
    """The message that `call` fails with: one line that has the file's name in it."""
    with pytest.raises(ImageError) as caught:
        call(*arguments, path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def check_contract(image: Image) -> None:
    assert image.pixels.dtype == np.float32
    assert image.pixels.shape == (image.height, image.width, 3)
    assert image.pixels.min() >= 0
    assert image.pixels.max() <= 1
    assert image.pixels.flags.c_contiguous
    if image.alpha is not None:
        assert image.alpha.dtype == np.float32
        assert image.alpha.shape == (image.height, image.width)
        assert 0 <= image.alpha.min() <= image.alpha.max() <= 1


def stored_by_a_camera(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera that was held so writes."""
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    return np.ascontiguousarray(stored)
