"""Animations, pages and clips: frame by frame from file to file."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dmsr_cli.cli.batch.consistency_fields import warnings_of
from dmsr_cli.cli.batch.restoring import (
    Guides,
    Restored,
    plan_picture,
    provenance_of,
    restore_image,
)
from dmsr_cli.errors import ImageError
from dmsr_cli.files import reason_of

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.pictures import Picture
    from dmsr_cli.images import (
        DirectDecoder,
        Frame,
        Image,
        IsolatedSequence,
        Provenance,
        Sequence,
    )
    from dmsr_cli.video import VideoFrame, VideoReader


@dataclass(frozen=True)
class Moving:
    """An input that has several frames, and where they are."""

    source: Path | BinaryIO
    is_clip: bool
    """A video, not an animation or a document of several pages."""


def first_image(job: Job, decoder: DirectDecoder) -> Image:
    """The picture of a job, or the first frame of an animation or clip.

    Raises:
        ImageError: it cannot be read.
    """
    from dmsr_cli.images import Image
    from dmsr_cli.video import is_video, open_video

    if job.is_piped_in or not is_video(job.source):
        return decoder.read_image(job.open())
    with open_video(job.source, decoder.limits.max_pixels) as clip:
        return Image(next(clip.frames(0, 1)).pixels, grey=clip.is_grey)


def restore_moving(picture: Picture, moving: Moving) -> Restored:
    """Restore frame after frame and write the result, whole or not at all.

    Raises:
        DmsrError: a frame cannot be read, restored or written.
    """
    from dmsr_cli.cli.batch.outputs import make_folder
    from dmsr_cli.video import open_video

    job = picture.job
    if not job.is_piped_out:
        make_folder(job.target.parent)
    if moving.is_clip:
        with open_video(job.source, picture.batch.decoder.limits.max_pixels) as clip:
            return _restore_clip(picture, clip)
    if not isinstance(moving.source, Path):
        moving.source.seek(0)  # it was looked into before
    sequence = picture.batch.decoder.open_sequence(moving.source)
    if sequence is None:
        raise ImageError(f"{job.source_name} has changed while it was read; try again")
    with sequence:
        return _restore_sequence(picture, sequence)


def _restore_sequence(picture: Picture, sequence: Sequence | IsolatedSequence) -> Restored:
    from dmsr_cli.images import write_sequence

    job, options = picture.job, picture.batch.options
    start, stop = options.frames
    chosen = range(start, sequence.count if stop is None else min(stop, sequence.count))
    if not chosen:
        what = "pages" if sequence.is_paged else "frames"
        raise ImageError(
            f"{job.source_name} has {sequence.count} {what}, counted from 0: none from {start} on"
        )
    suffix = picture.result_suffix(sequence.format)
    guides = None if sequence.is_paged else Guides(options.estimate_every)
    reel = _Reel(picture, len(chosen), suffix, sequence.warnings, guides)
    frames = reel.of_sequence(sequence.frames(start, None if stop is None else chosen.stop))
    first = next(frames)  # the note is about it
    # A pipe cannot be written beside and renamed: it gets its bytes when all are there.
    target = io.BytesIO() if job.is_piped_out else job.target
    write_sequence(
        itertools.chain([first], frames),
        target,
        count=len(chosen),
        format=suffix[1:],
        loop=sequence.loop,
        quality=options.quality,
        comment=_comment(sequence, reel.provenance(), options.strip),
        metadata=not options.strip,
        replace=picture.may_replace(job.target),
        before_rename=picture.before_rename_of_frames,
    )
    if isinstance(target, io.BytesIO):
        _write_out(target)
    return reel.summary()


def _write_out(result: io.BytesIO) -> None:
    """Hand a result to standard output; ImageError if it does not take it."""
    try:
        sys.stdout.buffer.write(result.getbuffer())
        sys.stdout.buffer.flush()
    except OSError as error:
        raise ImageError(f"cannot write standard output: {reason_of(error)}") from error


def _comment(
    sequence: Sequence | IsolatedSequence, note: Provenance | None, strip: bool
) -> bytes | None:
    """What a GIF, which has no other place, says: the note, or the comment that it had."""
    if note is not None:
        return note.note().encode("ascii")
    return None if strip else sequence.comment


def _restore_clip(picture: Picture, clip: VideoReader) -> Restored:
    from dmsr_cli.video import write_video

    job, options = picture.job, picture.batch.options
    start, stop = options.frames
    count = None if clip.frame_count is None else min(clip.frame_count, stop or clip.frame_count)
    reel = _Reel(
        picture,
        None if count is None else max(1, count - start),
        job.target.suffix,
        clip.warnings,
        Guides(options.estimate_every),
    )
    results = reel.of_clip(clip.frames(start, stop), clip)
    first = next(results)  # the note is about it
    note = reel.provenance()
    warnings = write_video(
        clip,
        itertools.chain([first], results),
        job.target,
        quality=options.quality,
        note=None if note is None else note.note(),
        strip=options.strip,
        replace=picture.may_replace(job.target),
        before_rename=picture.before_rename_of_frames,
    )
    for warning in warnings:
        picture.warn(warning)
    return reel.summary()


class _Reel:
    """Restores frames one after the other, and keeps of the first what is told of all."""

    def __init__(
        self,
        picture: Picture,
        count: int | None,
        suffix: str,
        warnings: tuple[str, ...],
        guides: Guides | None,
    ) -> None:
        self._picture = picture
        self._count = count
        self._suffix = suffix
        self._guides = guides
        self._strip = picture.batch.options.strip
        self._first: Restored | None = None
        self._done = 0
        self._told: set[str] = set()
        self._warn(warnings)

    def of_sequence(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Each frame at its new size, when it is asked for; the first has the provenance note."""
        from dmsr_cli.images import format_of_suffix, prepared_image

        file_format = format_of_suffix(self._suffix)
        for frame in frames:
            self._warn(frame.image.warnings)
            image = self._restored(frame.image)
            if self._done == 1 and file_format is not None:
                image = prepared_image(image, file_format, not self._strip, self.provenance())
            yield replace(frame, image=image)

    def of_clip(self, frames: Iterable[VideoFrame], clip: VideoReader) -> Iterator[VideoFrame]:
        """The same for a clip."""
        from dmsr_cli.images import Image

        depth = 16 if clip.bits > 8 else 8
        for frame in frames:
            image = Image(frame.pixels, grey=clip.is_grey, depth=depth)
            yield replace(frame, pixels=self._restored(image).pixels)

    def provenance(self) -> Provenance | None:
        """Of the first frame, once it is there; None if no note is wanted."""
        assert self._first is not None, "no frame is restored yet"
        return provenance_of(self._first, self._picture)

    def summary(self) -> Restored:
        """What is told of all."""
        assert self._first is not None, "writers refuse a sequence without frames"
        return replace(self._first, frames=self._done)

    def _restored(self, image: Image) -> Image:
        picture = self._picture
        plan = plan_picture(picture.job, image, picture.batch, self._suffix)
        batch, note = picture.batch, picture.share.note
        made = restore_image(
            *(image, plan, batch, self._show, note, self._guides), check=self._first is None
        )
        if self._first is None:
            self._first = made.ready(plan, image if picture.keeps_input else None)
            self._warn(warnings_of(made.consistency))
        if self._guides is not None:
            self._guides.next_frame()
        self._done += 1
        pixels = picture.record["input_pixels"] or 0
        picture.record["input_pixels"] = pixels + image.width * image.height
        return made.result

    def _show(self, done: float) -> None:
        if self._count:
            self._picture.share(min(1, (self._done + done) / self._count))

    def _warn(self, warnings: Iterable[str]) -> None:
        """Each once."""
        for warning in warnings:
            if warning not in self._told:
                self._told.add(warning)
                self._picture.warn(warning)
