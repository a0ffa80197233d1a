"""Read and write clips through PyAV, a frame at a time: colours, times, sound, metadata.

Frames are those of `dmsr_cli.images` in shape and type: float32 RGB in [0, 1] when read, and also
uint8 or uint16 when written.
"""

from dmsr_cli.video.formats import VIDEO_SUFFIXES, WRITABLE_VIDEO_SUFFIXES, is_video
from dmsr_cli.video.reading import VideoFrame, VideoReader, open_video
from dmsr_cli.video.writing import write_video

__all__ = [
    "VIDEO_SUFFIXES",
    "WRITABLE_VIDEO_SUFFIXES",
    "VideoFrame",
    "VideoReader",
    "is_video",
    "open_video",
    "write_video",
]
