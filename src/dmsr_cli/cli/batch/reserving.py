"""Whether the result of a picture may be made, and the claim on its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsr_cli.errors import ExistsError, ImageError
from dmsr_cli.files import is_there

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.claims import Claim
    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.pictures import Picture


@dataclass
class Reserved:
    """What is found out about the place of a result, before any work is done for it."""

    claim: Claim | None = None
    reason: str = ""
    """Why there is nothing to do, in the words that the summary counts."""
    why_skipped: str = ""
    """The same with the result's name."""

    def skipped(self, reason: str, why: str) -> None:
        """There is nothing to do."""
        self.reason, self.why_skipped = reason, why

    def release(self) -> None:
        """The work for the result has ended, well or not."""
        if self.claim is not None:
            self.claim.release()


def check_result(picture: Picture) -> bool:
    """Refuse a result that must not be replaced, or has no format; False if it is to be skipped.

    Afterwards the result is claimed, and `reserved` says so. Called by the thread that reads;
    whoever has written, or knows that there is nothing to write, releases it.
    """
    from dmsr_cli.cli.batch.claims import claim

    job, reserved = picture.job, picture.reserved
    if job.error:
        raise job.error
    if job.is_piped_out:
        return True
    was_there = is_there(job.target)
    if not is_wanted(picture):
        return False
    reserved.claim = claim(job.target, picture.batch.swept)
    if reserved.claim is None:
        reserved.skipped("another run is at work", f"another run is making {job.target_name}")
        return False
    # Another run may have made it between the look and the claim.
    return is_there(job.target) == was_there or is_wanted(picture)


def is_wanted(picture: Picture) -> bool:
    """`check_result` without claiming anything."""
    from dmsr_cli.cli.batch.outputs import refuse_existing

    job, options, reserved = picture.job, picture.batch.options, picture.reserved
    if job.error:
        raise job.error
    if job.is_piped_out:
        return True
    if options.skip_existing and _is_up_to_date(picture):
        reserved.skipped("up to date", f"{job.target_name} is up to date")
        return False
    _check_target(job, picture.may_replace(job.target))
    beside = [path for path in picture.beside() if not picture.may_replace(path)]
    refuse_existing(beside, options.overwrite)
    return True


def _is_up_to_date(picture: Picture) -> bool:
    """Says why a result is made anew; raises ImageError for one that must not be replaced."""
    from dmsr_cli.cli.batch.results import Kind, state_of_job

    job = picture.job
    if job.is_piped_in or not is_there(job.target):
        return False
    state = state_of_job(job, picture.batch, picture.source_file)
    if state.kind is Kind.FOREIGN and not picture.batch.options.overwrite:
        raise ImageError(f"{job.target_name} {state.why}: use --overwrite or another -o")
    if state.kind is Kind.STALE:
        picture.share.note(f"{job.target_name} is made anew: it {state.why}")
    return state.kind is Kind.CURRENT


def _check_target(job: Job, may_replace: bool) -> None:
    from dmsr_cli.images import WRITABLE_SUFFIXES
    from dmsr_cli.video import WRITABLE_VIDEO_SUFFIXES, is_video

    if is_there(job.target) and not may_replace:
        what = "is the input itself" if _is_the_input(job) else "exists already"
        raise ExistsError(
            f"{job.target_name} {what}: use --overwrite, --skip-existing or another -o"
        )
    is_clip = not job.is_piped_in and is_video(job.source)
    suffixes = WRITABLE_VIDEO_SUFFIXES if is_clip else WRITABLE_SUFFIXES
    if job.target.suffix.lower() not in suffixes:
        known = " ".join(sorted(suffixes))
        raise ImageError(f"cannot write {job.target_name}: its suffix must be one of {known}")


def _is_the_input(job: Job) -> bool:
    """Under whatever name: a link, too."""
    try:
        return not job.is_piped_in and job.target.samefile(job.source)
    except OSError:
        return False
