"""Read and write pictures: orientation, colour profile, metadata, alpha, 8 and 16 bit.

What is read is float32 RGB in [0, 1]. What is written may also be uint8 or uint16, as large
results are kept; it is never turned into float as a whole, only a strip of rows at a time.
"""

from dmsr_cli.images.folders import Search, find_images, search_folder
from dmsr_cli.images.formats import (
    FORMATS,
    READABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Format,
    format_named,
    format_of_suffix,
    largest_side,
)
from dmsr_cli.images.isolation import DirectDecoder, IsolatedDecoder, IsolatedSequence
from dmsr_cli.images.limits import MAX_PIXELS, Limits
from dmsr_cli.images.picture import LUMA_WEIGHTS, FloatArray, Image, Samples
from dmsr_cli.images.planes import resize_alpha
from dmsr_cli.images.provenance import Provenance, read_provenance
from dmsr_cli.images.reading import read_image, read_stream
from dmsr_cli.images.sequence_writing import ANIMATED_FORMATS, PAGED_FORMATS, write_sequence
from dmsr_cli.images.sequences import MAX_SEQUENCE_PIXELS, Frame, Sequence, open_sequence
from dmsr_cli.images.transparency import bleed_colour
from dmsr_cli.images.writing import prepared_image, write_image

__all__ = [
    "ANIMATED_FORMATS",
    "FORMATS",
    "LUMA_WEIGHTS",
    "MAX_PIXELS",
    "MAX_SEQUENCE_PIXELS",
    "PAGED_FORMATS",
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "DirectDecoder",
    "FloatArray",
    "Format",
    "Frame",
    "Image",
    "IsolatedDecoder",
    "IsolatedSequence",
    "Limits",
    "Provenance",
    "Samples",
    "Search",
    "Sequence",
    "bleed_colour",
    "find_images",
    "format_named",
    "format_of_suffix",
    "largest_side",
    "open_sequence",
    "prepared_image",
    "read_image",
    "read_provenance",
    "read_stream",
    "resize_alpha",
    "search_folder",
    "write_image",
    "write_sequence",
]
