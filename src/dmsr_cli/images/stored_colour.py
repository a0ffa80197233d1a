"""Which colour profile a file can keep, and the colours of those that it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dmsr_cli.images.colour import to_srgb
from dmsr_cli.images.formats import Format
from dmsr_cli.images.picture import Image
from dmsr_cli.images.planes import as_bytes

_GREY, _RGB = b"GRAY", b"RGB "


def kept_profile(image: Image, file_format: Format) -> bytes | None:
    """The profile that goes along: the format holds it, and it is for the channels stored."""
    stored = _GREY if image.grey and file_format.grey else _RGB
    fits = image.icc_profile is not None and image.icc_profile[16:20] == stored
    return image.icc_profile if fits and file_format.icc else None


def with_srgb_colours(picture: PIL.Image.Image, image: Image) -> PIL.Image.Image:
    """A picture of mode L, LA, RGB or RGBA, made of `image`, as the same mode in sRGB.

    What has sRGB colours already is returned as it is, and so is what cannot be converted: the
    profile is damaged or means no colours of such a picture.
    """
    profile, mode = image.icc_profile or b"", picture.mode
    colour = picture.convert(mode.removesuffix("A"))
    if image.grey:
        levels = srgb_levels(profile, 8)
        bands = len(colour.getbands())
        converted = None if levels is None else colour.point(levels.tolist() * bands)
    else:
        converted = None if _means_srgb(profile) else to_srgb(colour, profile)
    if converted is None:
        return picture
    if mode.endswith("A"):
        converted.putalpha(picture.getchannel("A"))
    return converted


def srgb_levels(profile: bytes, depth: int) -> NDArray[Any] | None:
    """The sRGB level of each level of grey of 8 or 16 bit in a profile of grey or of RGB.

    None where that cannot be, or changes nothing.
    """
    import imagecodecs

    space = profile[16:20]
    if space not in (_GREY, _RGB) or (space == _RGB and _means_srgb(profile)):
        return None
    ramp = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    try:
        converted = imagecodecs.cms_transform(
            ramp if space == _GREY else ramp[..., None].repeat(3, axis=2),
            profile,
            imagecodecs.cms_profile("srgb"),
            colorspace="gray" if space == _GREY else "rgb",
            outcolorspace="rgb",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=imagecodecs.CMS.FLAGS.NOOPTIMIZE,  # else dark grey is off by up to 10 of 255
        )
    except (ImportError, RuntimeError, ValueError):  # an installation without, a damaged profile
        return None
    levels = np.asarray(converted[..., 1], np.uint16).ravel()
    return levels if depth == 16 else as_bytes(levels[::257])


def _means_srgb(profile: bytes) -> bool:
    """The profile leaves colours from all over the cube where they are."""
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(len(steps), -1, 3)
    converted = to_srgb(PIL.Image.fromarray(cube), profile)
    return converted is not None and bool(
        np.abs(np.asarray(converted, int) - cube.astype(int)).max() <= 1
    )
