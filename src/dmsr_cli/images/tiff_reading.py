"""TIFF with more than 8 bit per channel, or in an arrangement that Pillow does not know."""

from __future__ import annotations

import logging
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
from PIL.TiffImagePlugin import TiffImageFile

from dmsr_cli.errors import ImageError
from dmsr_cli.images.colour import deep_cmyk_to_srgb
from dmsr_cli.images.metadata import Metadata, metadata_of
from dmsr_cli.images.picture import Samples
from dmsr_cli.images.raster import Raster

_BITS, _COMPRESSION, _PLANAR, _EXTRA, _KINDS = 258, 259, 284, 338, 339  # tags
_XMP, _PROFILE = 700, 34_675
_WEBP = 50_001  # as a compression
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Extra samples that are opacity: multiplied into the colours, or not.
_ASSOCIATED, _UNASSOCIATED = _OPACITIES = 1, 2
# How many channels the colours have that are read here, by tifffile's names.
_COLOURS = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3, "SEPARATED": 4}

for _library in ("tifffile", "PIL.TiffImagePlugin"):
    # Their remarks on odd files are for developers, and would land on standard error.
    logging.getLogger(_library).addHandler(logging.NullHandler())


def is_tiff(head: bytes) -> bool:
    """The first bytes of a file are those of a TIFF."""
    return head[:4] in _MAGIC


def needs_tifffile(picture: PIL.Image.Image) -> bool:
    """The header of a TIFF that Pillow opened names what Pillow cannot decode, or not whole."""
    if not isinstance(picture, TiffImageFile):
        return False
    tags = picture.tag_v2
    is_deep = max(tags.get(_BITS, (1,))) > 8 or max(tags.get(_KINDS, (1,))) > 1
    # Pillow's wheels have a libtiff without WebP, and no mode for planes that were multiplied.
    is_planar = tags.get(_PLANAR) == 2 and _ASSOCIATED in tags.get(_EXTRA, ())
    return bool(is_deep or is_planar or tags.get(_COMPRESSION) == _WEBP)


class TiffPage:
    """One page of an open file: its header first, the pixels when asked for."""

    def __init__(self, file: BinaryIO, number: int = 0) -> None:
        import tifffile  # takes a moment, and only some TIFF need it

        file.seek(0)
        self._file = file
        self._tiff = tifffile.TiffFile(file)
        self._page: Any = self._tiff.pages[number].aspage()
        self.width, self.height = int(self._page.imagewidth), int(self._page.imagelength)
        self.bits = int(self._page.bitspersample)

    @property
    def has_inks(self) -> bool:
        """The colours are those of four inks."""
        return bool(self._page.photometric == 5)

    def metadata(self) -> Metadata:
        """Call it inside `pillow_settings`."""
        exif = PIL.Image.Exif()
        exif.bigtiff, exif.endian = self._tiff.is_bigtiff, self._tiff.byteorder

        def load() -> PIL.Image.Exif:
            exif.load_from_fp(self._file, self._page.offset)
            return exif

        tags = self._page.tags
        return metadata_of(load, {"xmp": tags.valueof(_XMP), "icc_profile": tags.valueof(_PROFILE)})

    def raster(self, icc_profile: bytes | None) -> tuple[Raster, str | None]:
        """The pixels; inks as RGB, with a clause if the profile could not be used for them."""
        colours = self._check()
        samples = self._samples()
        if colours == 4:
            return self._from_inks(samples, icc_profile)
        white = _white(samples.dtype, self.bits)
        kinds = tuple(int(kind) for kind in self._page.extrasamples)
        opacity = next((n for n, kind in enumerate(kinds) if kind in _OPACITIES), None)
        if not kinds and samples.shape[2] == colours + 1:
            opacity, kinds = 0, (_UNASSOCIATED,)  # not said to be anything else
        channels = [*range(colours), *([] if opacity is None else [colours + opacity])]
        if len(channels) < samples.shape[2]:
            samples = samples[..., channels]
        if self._page.photometric.name == "MINISWHITE":
            samples = samples.copy()
            samples[..., 0] = white - samples[..., 0]
        associated = opacity is not None and kinds[opacity] == _ASSOCIATED
        return Raster(samples, white, opacity is not None, associated), None

    def _check(self) -> int:
        """The number of colours; ImageError for what this cannot read."""
        page = self._page
        name = getattr(page.photometric, "name", "of a kind unknown")
        colours = _COLOURS.get(name)
        if colours is None:
            raise ImageError(
                f"its colours, {name} at {self.bits} bit, cannot be read; convert it to RGB"
            )
        named = colours + max(1, len(page.extrasamples))
        if not colours <= page.samplesperpixel <= named or page.imagedepth != 1:
            raise ImageError(
                f"its {page.samplesperpixel} channels are not a picture; convert it to RGB"
            )
        self._check_extent()
        return colours

    def _check_extent(self) -> None:
        """All data are there. Missing ones would be read as black."""
        page = self._page
        end = self._file.seek(0, 2)
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        if len(parts) < int(np.prod(page.chunked)) or any(
            offset <= 0 or count <= 0 or offset + count > end for offset, count in parts
        ):
            raise ImageError("it is damaged or cut short (parts of the picture are missing)")

    def _samples(self) -> Samples:
        """Height x width x channels."""
        samples: Samples = self._page.asarray(squeeze=True)
        if samples.ndim == 3 and self._page.planarconfig == 2:
            samples = np.moveaxis(samples, 0, 2)
        return samples.reshape(self.height, self.width, -1)

    def _from_inks(self, samples: Samples, icc_profile: bytes | None) -> tuple[Raster, str | None]:
        if samples.dtype.type not in (np.uint8, np.uint16):
            raise ImageError(f"its inks have {self.bits} bit; convert it to 8 or 16 bit")
        inks = samples[..., :4].astype(np.uint16) * (257 if samples.dtype.type == np.uint8 else 1)
        colours, clause = deep_cmyk_to_srgb(np.ascontiguousarray(inks), icc_profile)
        return Raster(colours, 65_535), clause


def _white(kind: np.dtype[Any], bits: int) -> float:
    """What a type of numbers has for white."""
    if kind.kind == "f":
        return 1
    if kind.kind == "u":
        return float(2**bits - 1)
    if kind.kind == "i" and bits == 32:
        return 65_535  # what Pillow has in its 32-bit mode
    raise ImageError(f"its samples are of type {kind}; convert it to 8 or 16 bit")
