"""What the tests of writing share: metadata, colour profiles, and independent readers."""

import io
import struct

import imagecodecs
import numpy as np
import PIL.Image
import tifffile
from PIL import ExifTags

from dmsr_cli.images import FORMATS, Image, write_image
from dmsr_cli.images.formats import prepare
from pictures import SRGB

NAME = "José".encode()  # EXIF has ASCII; what cameras write is UTF-8
XMP = "<x:xmpmeta>é</x:xmpmeta>".encode()


def exif_block() -> bytes:
    """EXIF of many kinds, of a picture 11 pixels wide."""
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Artist] = NAME
    exif[ExifTags.Base.WhitePoint] = (0.25, 0.5)
    exif[18_246] = 4  # Rating
    exif[40_092] = b"a\0b\0\0\0"  # XPComment
    exif[ExifTags.Base.YCbCrPositioning] = 1  # of JPEG; wrong in others
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details.update({0xA002: 11, 0x829A: 0.01, 0x9286: b"ASCII\0\0\0hi", 0xA005: {1: "R98"}})
    details[0xA434] = NAME  # LensModel
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (1.0, 2.5, 3.0)})
    return exif.tobytes()


def check_exif(exif: PIL.Image.Exif, width: int, is_tiff: bool) -> None:
    """All of `exif_block` is there, with the width of the picture."""
    assert exif[ExifTags.Base.Make] == "Maker"
    assert exif[ExifTags.Base.Artist].encode("latin-1") == NAME  # as Pillow reads bytes
    assert exif[ExifTags.Base.WhitePoint] == (0.25, 0.5)
    assert exif[18_246] == 4
    assert exif[40_092] == b"a\0b\0\0\0"
    assert (ExifTags.Base.YCbCrPositioning in exif) != is_tiff
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert details[0xA002] == width
    assert details[0x829A] == 0.01
    assert details[0x9286] == b"ASCII\0\0\0hi"
    assert details[0xA434] == NAME
    assert exif.get_ifd(ExifTags.IFD.Interop) == {1: "R98"}
    assert exif.get_ifd(ExifTags.IFD.GPSInfo) == {1: "N", 2: (1.0, 2.5, 3.0)}


def with_linear_curves(profile: bytes) -> bytes:
    """The same profile of colours with light that is in proportion to the numbers."""
    changed = bytearray(profile)
    for number in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * number
        if profile[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            start = int.from_bytes(profile[entry + 4 : entry + 8], "big")
            changed[start : start + 12] = b"curv" + bytes(8)  # no points: the identity
    return bytes(changed)


def linear_grey_profile() -> bytes:
    """A profile of grey with light that is in proportion to the numbers."""
    white = b"XYZ " + bytes(4) + struct.pack(">3l", 63_190, 65_536, 54_061)
    curve = b"curv" + bytes(8)
    tags = struct.pack(">L4sLL4sLL", 2, b"wtpt", 156, 20, b"kTRC", 176, 12)
    header = bytearray(128)
    header[0:4] = struct.pack(">L", 188)
    header[8:24] = struct.pack(">L4s4s4s", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header[36:40] = b"acsp"
    header[68:80] = white[8:]
    return bytes(header) + tags + white + curve


LINEAR = with_linear_curves(SRGB)
LINEAR_GREY = linear_grey_profile()


def written(image: Image | np.ndarray, name: str, **options: object) -> bytes:
    """The file of a picture in a format."""
    stream = io.BytesIO()
    write_image(image, stream, format=name, **options)
    return stream.getvalue()


def opened(content: bytes) -> PIL.Image.Image:
    """A file as Pillow sees it."""
    for known in FORMATS.values():
        prepare(known)
    return PIL.Image.open(io.BytesIO(content))


def samples_of(content: bytes) -> np.ndarray:
    """The samples of a PNG or a TIFF with all their bits, as an independent reader sees them."""
    if content.startswith(b"\x89PNG"):
        return imagecodecs.png_decode(content)
    return tifffile.imread(io.BytesIO(content))
