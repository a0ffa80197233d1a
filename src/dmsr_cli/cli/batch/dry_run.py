"""`dmsr upscale --dry-run`: what would be done, and what can be known to fail, without doing it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dmsr_cli.cli.batch.pictures import Picture
from dmsr_cli.cli.batch.reserving import is_wanted
from dmsr_cli.errors import DmsrError, ImageError, SettingsError
from dmsr_cli.files import display_name

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.cli.batch.settings import Batch
    from dmsr_cli.images import Limits


def explain(pictures: Iterable[Picture], report: BatchReport, remarks: Iterable[str]) -> int:
    """Say what would be done with each input; returns the exit status that a run would have.

    What is wrong inside a file is seen only when it is read, and is not foretold.
    """
    counts = {"planned": 0, "skipped": 0, "failed": 0}
    pixels = 0
    to_come: set[Path] = set()
    for picture in pictures:
        record = picture.record
        try:
            text = _plan(picture, to_come)
        except DmsrError as error:
            if picture.batch.options.debug:
                raise
            record.update(status="failed", error=str(error))
            text = f"dmsr: error: {error}"
        counts[record["status"]] += 1
        pixels += (record["width"] or 0) * (record["height"] or 0)
        if report.as_json:
            click.echo(json.dumps(record))
        elif record["status"] != "failed":
            click.echo(text)
        if record["status"] == "failed":
            report.say(text, style="red")
    for remark in remarks:
        report.say(remark)
    planned, skipped, failed = counts.values()
    report.say(
        f"{planned} to do ({pixels / 1e6:,.1f} megapixels), {skipped} to skip, {failed} would "
        "fail; nothing was written"
    )
    return 1 if failed else 0


def _plan(picture: Picture, to_come: set[Path]) -> str:
    """Fill in the record of a picture, and say what would be done with it."""
    job, record = picture.job, picture.record
    if job.error:
        raise job.error
    is_to_come = job.source in to_come and not job.source.exists()  # a result made on the way
    if not (is_to_come or job.is_piped_in):
        _ = picture.source_file  # refuses what is no file
    if not is_wanted(picture):
        record["status"] = "skipped"
        return f"{job.source_name}: skip, {job.target_name} is up to date"
    if not job.is_piped_out:
        _check_folder(job.target)
    limits = picture.batch.decoder.limits
    size = None if is_to_come or job.is_piped_in else _size_of(job.source, limits)
    shown = ""
    if size is not None:
        height, width = _size_of_result(picture.batch, size, job.target.suffix, job.source_name)
        record.update(width=width, height=height)
        shown = f" ({width}x{height})"
    record["status"] = "planned"
    to_come.add(job.target)
    return f"{job.source_name} -> {job.target_name}{shown}"


def _check_folder(target: Path) -> None:
    """Raise ImageError if the folder of a result is not there and cannot be made, or is closed."""
    folder = target.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ImageError(
            f"cannot make the folder {display_name(target.parent)}: {display_name(folder)} is "
            "no folder"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageError(
            f"cannot write {display_name(target)}: nothing may be written to {display_name(folder)}"
        )


def _size_of(path: Path, limits: Limits) -> tuple[int, int] | None:
    """Height and width of an upright picture by its header; None where that does not say them."""
    import PIL.Image

    from dmsr_cli.images import FORMATS
    from dmsr_cli.images.limits import pillow_settings
    from dmsr_cli.video import is_video

    if is_video(path):
        return None
    try:
        # Naming the formats keeps Pillow from trying others; some of those start programs.
        known = tuple(name for name in FORMATS if name != "HEIF")
        with pillow_settings(limits), PIL.Image.open(path, formats=known) as picture:
            width, height = picture.size
            is_turned = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # decoders raise about every class there is; reading will tell
        return None
    return (width, height) if is_turned else (height, width)


_ORIENTATION = 0x0112
"""EXIF's tag for how the camera was held; from 5 on, width and height change places."""


def _size_of_result(batch: Batch, size: tuple[int, int], suffix: str, name: str) -> tuple[int, int]:
    """Height and width of a result; ImageError if it is out of reach, or too large."""
    from dmsr_cli.resizing import check_output

    height, width = size
    wanted = batch.wanted.size_of(height, width)
    try:
        scale = math.prod(batch.scales_for(batch.wanted.factor_of(height, width)))
        check_output(wanted, (height * scale, width * scale), suffix)
    except (SettingsError, ImageError) as error:
        raise ImageError(f"{name}: {error}") from None
    return wanted
