"""Reads, restores and writes one picture of a batch: the three stages that overlap."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from dmsr_cli.cli.batch.consistency_fields import fields_of, warnings_of
from dmsr_cli.cli.batch.moving import Moving, restore_moving
from dmsr_cli.cli.batch.reserving import check_result
from dmsr_cli.cli.batch.restoring import Restored, plan_picture, provenance_of, restore_image
from dmsr_cli.cli.batch.settings import names_of

if TYPE_CHECKING:
    from pathlib import Path

    from dmsr_cli.cli.batch.overlap import Outcome
    from dmsr_cli.cli.batch.pictures import Picture
    from dmsr_cli.images import Image


def read(picture: Picture) -> Image | Moving | None:
    """Check all that can be checked without the picture, then read it; None if it is skipped.

    Of what has several frames only the place is returned: they are read one after the other.
    """
    from dmsr_cli.video import is_video

    if not check_result(picture):
        return None
    job, decoder = picture.job, picture.batch.decoder
    with picture.stopwatch.running(), picture.reading():
        if not job.is_piped_in and is_video(job.source):
            return Moving(job.source, is_clip=True)
        source = job.open()
        sequence = decoder.open_sequence(source)
        if sequence is None:
            return decoder.read_image(source)
        with sequence:
            start, stop = picture.batch.options.frames
            if stop is None or min(stop, sequence.count) - start != 1:
                return Moving(source, is_clip=False)
            return next(sequence.frames(start, start + 1)).image  # one frame makes a still


def restore(picture: Picture, source: Outcome[Image | Moving | None]) -> Restored | None:
    """Estimate, restore, resize; None if the picture is skipped."""
    image = source.take()
    if image is None:
        return None
    picture.share.begin()
    with picture.stopwatch.running():
        if isinstance(image, Moving):
            return restore_moving(picture, image)
        picture.record["input_pixels"] = image.width * image.height
        for warning in image.warnings:
            picture.warn(warning)
        suffix = picture.result_suffix(image.format)
        plan = plan_picture(picture.job, image, picture.batch, suffix)
        share, batch = picture.share, picture.batch
        made = restore_image(image, plan, batch, share, share.note)
        for warning in warnings_of(made.consistency):
            picture.warn(warning)
        return made.ready(plan, image if picture.keeps_input else None)


def finish(picture: Picture, outcome: Outcome[Restored | None]) -> None:
    """Write one picture, and report it; or report why there is nothing to write."""
    work = partial(_write_and_tell, picture, outcome)
    debug = picture.batch.options.debug
    try:
        picture.share.report.run(picture.record, work, debug, picture.share.turn)
    finally:
        picture.reserved.release()


def _write_and_tell(
    picture: Picture, outcome: Outcome[Restored | None], record: dict[str, Any]
) -> str:
    """Write the files, fill in the record, and say what was done."""
    job = picture.job
    restored = outcome.take()
    if restored is None:
        record.update(status="skipped", reason=picture.reserved.reason)
        return f"{job.source_name}: skipped, {picture.reserved.why_skipped}"
    with picture.stopwatch.running():
        _write(picture, restored)
    plan = restored.plan
    record.update(
        status="ok",
        scale=plan.factor,
        width=plan.width,
        height=plan.height,
        model=names_of(plan.models),
        kernel_width=restored.kernel_width,
        noise_level=round(restored.degradation.noise_level, 2),
        seconds=round(picture.stopwatch.seconds, 3),
        frames=restored.frames,
        estimated_kernel_width=restored.estimated.kernel_width,
        estimated_noise_level=round(restored.estimated.noise_level, 2),
        **fields_of(restored.consistency),
    )
    if restored.before is not None:
        _show(picture, restored, restored.before)
    frames = "" if restored.frames is None else f"{restored.frames} frames, "
    return (
        f"{job.source_name} -> {job.target_name} ({plan.width}x{plan.height}, {frames}"
        f"{plan.models_used}blur {record['kernel_width']:.2f} px, "
        f"noise {record['noise_level']:.1f}, {record['seconds']:.1f} s)"
    )


def _write(picture: Picture, restored: Restored) -> None:
    """The result, unless its frames are written already, and what is wanted beside it."""
    from dmsr_cli.cli.batch import outputs
    from dmsr_cli.images import write_image
    from dmsr_cli.visual import COMPARISONS

    job, options = picture.job, picture.batch.options
    if restored.frames is None:
        if not job.is_piped_out:
            outputs.make_folder(job.target.parent)
        write_image(
            restored.result,
            _target_of(picture),
            format=picture.result_suffix(restored.result.format)[1:],
            quality=options.quality,
            metadata=not options.strip,
            provenance=provenance_of(restored, picture),
            replace=picture.may_replace(job.target),
            before_rename=picture.recorder(job.target),
        )
    if options.save_degradation:
        stem = job.target.with_suffix("")
        first = restored.plan.models[0]
        origin = outputs.Origin(first.scale, first.name, job.source.name)
        outputs.save_degradation(
            *(restored.degradation, stem, origin, picture.may_replace, picture.recorder)
        )
        if restored.consistency is not None and restored.before is not None:
            outputs.save_consistency(
                *(restored.consistency.map, restored.before.pixels, stem),
                *(picture.may_replace, picture.recorder),
            )
    if options.compare and restored.before is not None:
        compared = COMPARISONS[options.compare_mode or "side-by-side"]
        both, path = compared(restored.before, restored.result), picture.compared
        replace = picture.may_replace(path)
        write_image(both, path, replace=replace, before_rename=picture.recorder(path))


def _show(picture: Picture, restored: Restored, before: Image) -> None:
    """Let the pages of the batch have their pictures."""
    from dmsr_cli.pages import Exhibit

    kernel, noise_map = restored.degradation.kernel, restored.degradation.noise_map
    found = restored.consistency
    consistency_map = None if found is None else found.map
    exhibit = Exhibit(before, kernel, noise_map, restored.result, consistency_map)
    picture.share.report.show(picture.record, exhibit)


def _target_of(picture: Picture) -> Path | BinaryIO:
    return sys.stdout.buffer if picture.job.is_piped_out else picture.job.target
