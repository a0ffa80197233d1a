"""HEIC, the photographs of telephones, through the package of the extra `heif`."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from dmsr_cli.errors import ImageError
from dmsr_cli.images.metadata import Metadata, metadata_of
from dmsr_cli.images.raster import Raster

_BRANDS = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"msf1"),
}


def is_heif(head: bytes) -> bool:
    """The first bytes of a file are those of a HEIC, whatever its suffix."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


class HeifPicture:
    """The main picture of an open file: its header first, the pixels when asked for."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pillow_heif
        except ImportError as error:
            raise ImageError(
                'it is a HEIC picture, which needs one more package: pip install "dmsr-cli[heif]"'
            ) from error
        file.seek(0)
        opened: Any = pillow_heif.open_heif(file, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        self._picture = opened[opened.primary_index]
        self.width, self.height = self._picture.size
        self.bits = int(self._picture.info.get("bit_depth", 8))

    def metadata(self) -> Metadata:
        """Call it inside `pillow_settings`. The decoder has turned the picture already."""
        info = self._picture.info

        def load() -> PIL.Image.Exif:
            exif = PIL.Image.Exif()
            exif.load(info.get("exif") or b"")
            exif.pop(0x0112, None)
            return exif

        return metadata_of(load, info, xmp_turns=False)

    def raster(self) -> Raster:
        """The pixels, upright."""
        mode = self._picture.mode.split(";")[0]
        samples = np.asarray(self._picture)
        if samples.ndim == 2:
            samples = samples[..., None]
        has_alpha = mode in ("LA", "La", "RGBA", "RGBa")
        return Raster(samples, 2**self.bits - 1, has_alpha, mode in ("La", "RGBa"))
