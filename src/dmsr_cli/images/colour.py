"""Colour profiles: which colours the numbers of a picture mean."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms, features

from dmsr_cli.images.picture import Samples

_SPACE_OF_MODE = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK", "LAB": b"Lab "}
_NAME_OF_SPACE = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}

# Relative colorimetric leaves every colour that sRGB can show as it is, where perceptual moves
# them all, each profile in its own way, and sRGB has no such table. Black point compensation keeps
# the steps between dark inks, which would all turn black.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION


def usable_profile(icc_profile: bytes | None, *, grey: bool) -> tuple[bytes | None, str | None]:
    """A profile if it fits grey or RGB pixels and works; else None and a clause that says why."""
    mode = "L" if grey else "RGB"
    clause = _fault(icc_profile, mode) if icc_profile else None
    return (None if clause else icc_profile), clause


def to_srgb(picture: PIL.Image.Image, icc_profile: bytes) -> PIL.Image.Image | None:
    """A picture of 8 bit as RGB with sRGB colours, or RGBA if it has opacity.

    Takes the modes L, LA, RGB, RGBA, CMYK and LAB. Returns None where it cannot be: the profile is
    damaged or of another colour space than the picture, or Pillow was built without littlecms.
    """
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    colours = picture.convert(picture.mode[:-1]) if alpha else picture
    if icc_profile[16:20] != _SPACE_OF_MODE.get(colours.mode):
        return None
    try:
        converted = _transform(icc_profile, colours.mode).apply(colours)
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError):
        return None
    if alpha:
        converted.putalpha(alpha)
    return converted


def lab_to_srgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """A picture of mode LAB, which is relative to D50, as RGB with sRGB colours."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    converted = to_srgb(picture, lab)
    if converted is None:
        raise ValueError("Lab colours need a Pillow with littlecms")
    return converted


def cmyk_to_srgb(
    picture: PIL.Image.Image, icc_profile: bytes | None
) -> tuple[PIL.Image.Image, str | None]:
    """Mode CMYK as RGB: through the profile, or plainly, with a clause where that is at fault."""
    converted = to_srgb(picture, icc_profile) if icc_profile else None
    if converted:
        return converted, None
    clause = _fault(icc_profile, "CMYK") if icc_profile else None
    return picture.convert("RGB"), clause


def deep_cmyk_to_srgb(
    inks: NDArray[np.uint16], icc_profile: bytes | None
) -> tuple[Samples, str | None]:
    """Inks of 16 bit, height x width x 4, 65535 for all ink, as RGB of 16 bit; else as above."""
    clause = _fault(icc_profile, "CMYK") if icc_profile else None
    if icc_profile and not clause:
        converted: Samples = imagecodecs.cms_transform(
            inks,
            icc_profile,
            imagecodecs.cms_profile("srgb"),
            colorspace="cmyk",
            outcolorspace="rgb",
            outdtype="uint16",
            intent=int(_INTENT),
            flags=int(_FLAGS),
        )
        return converted, None
    paper = 65_535 - inks.astype(np.uint32)
    return ((paper[..., :3] * paper[..., 3:] + 32_767) // 65_535).astype(np.uint16), clause


def _fault(icc_profile: bytes, mode: str) -> str | None:
    """A clause that says why a profile cannot be used for pixels of a mode; None if it can."""
    if not features.check("littlecms2"):
        return None  # nothing here can tell
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        space = icc_profile[16:20]
        if space != _SPACE_OF_MODE[mode]:
            theirs = _NAME_OF_SPACE.get(space, "other")
            return f"its colour profile is for {theirs} pictures and was left out"
        # Opening reads a table of contents only; making a transform reads the rest.
        _transform(icc_profile, mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return "its colour profile is damaged and was left out"
    return None


def _transform(icc_profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=_INTENT,
        flags=_FLAGS,
    )
