"""Which clips are read and written: suffixes, containers, encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

READABLE_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg"
"""FFmpeg's names. Others, as playlists, would make it open files that nobody named."""


@dataclass(frozen=True)
class Container:
    """One kind of file that clips are written to."""

    format: str
    """FFmpeg's name of it."""
    codecs: tuple[str, ...]
    """Those that usual players take in it; the first is for sources of any other."""
    constant_rate: bool = False
    """It has no times of frames, only a rate."""
    keeps_colour: bool = False
    """It says which matrix a clip has, where the stream itself does not."""
    keeps_aspect: bool = False
    """It says which shape pixels have, where the stream itself does not."""


# fmt: off
_MP4 = Container("mp4", ("h264", "hevc", "av1", "vp9", "mpeg4"), keeps_colour=True,
                 keeps_aspect=True)
_MPEGTS = Container("mpegts", ("h264", "hevc"))
CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", ("h264", "hevc", "prores", "mpeg4"), keeps_colour=True,
                      keeps_aspect=True),
    ".mkv": Container("matroska", ("h264", "hevc", "vp9", "av1", "mpeg4", "prores", "ffv1"),
                      keeps_colour=True),
    ".webm": Container("webm", ("vp9", "av1"), keeps_colour=True),
    ".avi": Container("avi", ("mpeg4", "ffv1"), constant_rate=True),
    ".ts": _MPEGTS,
    ".mts": _MPEGTS,
    ".m2ts": _MPEGTS,
    ".flv": Container("flv", ("h264",)),
    ".3gp": Container("3gp", ("h264", "mpeg4"), keeps_colour=True, keeps_aspect=True),
}
# fmt: on

WRITABLE_VIDEO_SUFFIXES = frozenset(CONTAINERS)
"""Lower-case suffixes that `write_video` has a container for."""
VIDEO_SUFFIXES = WRITABLE_VIDEO_SUFFIXES | {".mpg", ".mpeg", ".wmv", ".ogv"}
"""Lower-case suffixes of the files that are taken for clips."""


def is_video(path: str | Path) -> bool:
    """The suffix is that of a clip; what is in the file is seen when it is opened."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Encoder:
    """How one codec is written. A quality of 95 stands for what the eye cannot tell apart."""

    names: tuple[str, ...]
    """FFmpeg's names of encoders, best first; builds differ in what they have."""
    options: Mapping[str, str] = field(default_factory=dict)
    quantiser: str = ""
    """The option that `quality` sets; a lossless or fixed codec has none."""
    good: float = 0
    """Value of `quantiser` at quality 95."""
    worst: float = 0
    """Value of `quantiser` at quality 1."""
    unit: int = 1
    """What a step of the quantiser counts in that option."""
    sampling: str = "420"
    """Of the chroma, in the words of pixel formats."""
    keeps_matrix: bool = True
    """The stream says which matrix it has."""
    keeps_range: bool = True
    """The stream says whether it has the full range."""
    keeps_aspect: bool = True
    """The stream says which shape its pixels have."""
    narrowest: int = 1
    """Columns that a picture must have."""
    largest_clock: int | None = None
    """Ticks that a second may have; None if any number."""

    def options_at(self, quality: int) -> dict[str, str]:
        """Options of the encoder for a quality from 1 to 100."""
        options = dict(self.options)
        if self.quantiser:
            value = self.good + (95 - quality) * (self.worst - self.good) / 94
            options[self.quantiser] = str(max(1, round(value)) * self.unit)
        return options


# fmt: off
# x265 and the AV1 encoders have scales of their own: these are about equally good as x264's.
ENCODERS = {
    # A shorter look-ahead than 40: each frame of it is a result that lies in memory.
    "h264": Encoder(("libx264",), {"preset": "medium", "rc-lookahead": "20"}, "crf", 16, 51),
    # It writes to the terminal itself, past FFmpeg; of pictures of up to 48 columns, past the end
    # of its memory.
    "hevc": Encoder(("libx265",), {"preset": "medium", "x265-params": "log-level=none"},
                    "crf", 18, 51, narrowest=64),
    "vp9": Encoder(("libvpx-vp9",), {"deadline": "good", "cpu-used": "3", "row-mt": "1"},
                   "crf", 16, 63, keeps_aspect=False),
    "av1": Encoder(("libsvtav1", "libaom-av1"), {}, "crf", 18, 63, keeps_aspect=False),
    "mpeg4": Encoder(("mpeg4",), {"flags": "+qscale"}, "global_quality", 2, 31, unit=118,
                     keeps_matrix=False, keeps_range=False, largest_clock=65_535),
    "prores": Encoder(("prores_ks",), {"profile": "hq"}, sampling="422", keeps_range=False,
                      keeps_aspect=False),
    "ffv1": Encoder(("ffv1",), {"level": "3"}, sampling="444", keeps_matrix=False,
                    keeps_range=False, keeps_aspect=False),
}
# fmt: on
