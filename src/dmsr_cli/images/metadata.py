"""What a file says about its picture: EXIF, XMP, resolution and which side is up."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

import PIL.Image
from PIL import ExifTags

_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([0-9]+)")
_SUB_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)

LAYOUT_TAGS = frozenset(
    [
        *(*range(254, 267), 273, 274, *range(277, 282), 284, *range(288, 294), 297, 301, 317),
        *(*range(320, 326), 330, *range(332, 342), 347, *range(512, 522), *range(529, 533)),
        *(700, 33_723, 34_377, 34_675, 37_724, 50_838, 50_839),  # XMP, ICC and layers
    ]
)
"""TIFF's tags that say how one file holds its pixels; the orientation is among them."""


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture, fit to be written with the upright picture."""

    orientation: int = 1
    """1 to 8, as EXIF counts: how the stored pixels must be turned."""
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    icc_profile: bytes | None = None
    """As the file has it, not checked."""
    warnings: tuple[str, ...] = ()


def metadata_of_picture(picture: PIL.Image.Image) -> Metadata:
    """The metadata of a picture that Pillow opened. Call it inside `pillow_settings`."""
    info, block = picture.info, picture.info.get("exif")

    def load() -> PIL.Image.Exif:
        if not isinstance(block, bytes):
            return picture.getexif()  # of the tags of a TIFF, or a text chunk of a PNG
        exif = PIL.Image.Exif()
        exif.load(block)
        return exif

    # In an AVIF the container turns the picture, and Pillow tells that through EXIF alone.
    return metadata_of(load, info, xmp_turns=picture.format != "AVIF")


def metadata_of(
    load_exif: Callable[[], PIL.Image.Exif], info: Mapping[Any, Any], xmp_turns: bool = True
) -> Metadata:
    """What was found, without what is damaged, which `warnings` names.

    `info` has entries as Pillow names them: xmp, dpi, icc_profile. `xmp_turns` allows that XMP
    gives the orientation where EXIF has none. Call it inside `pillow_settings`.
    """
    exif, clauses = _loaded(load_exif)
    xmp, clause = _checked_xmp(info.get("xmp") or info.get("XML:com.adobe.xmp"))
    clauses += [clause] if clause else []
    orientation = exif.get(ExifTags.Base.Orientation)
    if orientation is None and xmp and xmp_turns and (match := _XMP_ORIENTATION.search(xmp)):
        orientation = int(match[2])
    block, whole = _rebuilt(exif)
    if not whole and not clauses:
        clauses = ["its EXIF data are damaged in part and were cut down"]
    return Metadata(
        orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
        block,
        # Viewers may look here, too, and would turn the upright picture once more.
        xmp and _XMP_ORIENTATION.sub(rb"\g<1>1", xmp),
        _resolution(info) or _exif_resolution(exif),
        info.get("icc_profile") or None,
        tuple(clauses),
    )


def _loaded(load_exif: Callable[[], PIL.Image.Exif]) -> tuple[PIL.Image.Exif, list[str]]:
    """All directories that will be needed; empty and with a clause where they are damaged."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            exif = load_exif()
            for tag in _SUB_DIRECTORIES:
                exif.get_ifd(tag)
    except Exception:  # as many kinds as there are ways to damage EXIF
        return PIL.Image.Exif(), ["its EXIF data are damaged and were left out"]
    if not any("orrupt" in str(warning.message) for warning in caught):
        return exif, []
    extent = "in part and were cut down" if len(exif) else "and were left out"
    return exif, [f"its EXIF data are damaged {extent}"]


def _rebuilt(exif: PIL.Image.Exif) -> tuple[bytes | None, bool]:
    """EXIF for the upright picture, None if there are no tags; and whether all could be kept.

    The thumbnail, which shows the picture as it was, is not among the directories copied.
    """
    kept = PIL.Image.Exif()
    kept.endian = exif.endian
    whole = True
    for tag in sorted(exif):
        try:
            value = _sub_directory(exif, tag) if tag in _SUB_DIRECTORIES else _text(exif[tag])
            _check_encodes({tag: value})
        except Exception:  # as above
            whole = False
            continue
        if tag not in LAYOUT_TAGS and value != {}:
            kept[tag] = value
    return (kept.tobytes() if len(kept) else None), whole


def _sub_directory(exif: PIL.Image.Exif, tag: int) -> dict[int, Any]:
    entries = {key: _text(value) for key, value in exif.get_ifd(tag).items()}
    if ExifTags.IFD.Interop in entries:
        entries[ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
    return {key: value for key, value in entries.items() if key not in LAYOUT_TAGS}


def _text(value: Any) -> Any:
    """Text that is not ASCII as the bytes it was read from: Pillow would write question marks."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def _check_encodes(tags: Mapping[int, Any]) -> None:
    trial = PIL.Image.Exif()
    for tag, value in tags.items():
        trial[tag] = value
    trial.tobytes()


def _checked_xmp(found: Any) -> tuple[bytes | None, str | None]:
    """The packet as it is, or a clause that says why not."""
    if not found:
        return None, None
    packet = found.encode() if isinstance(found, str) else found
    try:
        parser = expat.ParserCreate()
        parser.EntityDeclHandler = _refuse_entity
        parser.Parse(packet.rstrip(b"\0 \r\n\t"), True)
    except Exception:  # not bytes at all, or not XML
        return None, "its XMP data are damaged and were left out"
    return packet, None


def _refuse_entity(*declaration: object) -> None:
    raise ValueError("XMP declares no entities; those that grow without end do")


def _resolution(info: Mapping[Any, Any]) -> tuple[float, float] | None:
    """Pixels per inch, unless they are the nonsense that stands for "not known"."""
    try:
        horizontal, vertical = (float(value) for value in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    known = 1 < horizontal < 65_536 and 1 < vertical < 65_536
    return (horizontal, vertical) if known else None


def _exif_resolution(exif: PIL.Image.Exif) -> tuple[float, float] | None:
    try:
        unit = {2: 1.0, 3: 2.54}[exif.get(ExifTags.Base.ResolutionUnit, 2)]
        tags = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
        return _resolution({"dpi": [float(exif[tag]) * unit for tag in tags]})
    except Exception:  # values of any type
        return None
