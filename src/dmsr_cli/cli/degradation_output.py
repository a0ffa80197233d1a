"""`dmsr estimate -o NAME.dmsr.json`, and the mean of several pictures with --mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dmsr_cli.cli.batch.jobs import Job
    from dmsr_cli.cli.batch.report import BatchReport
    from dmsr_cli.pipeline import Degradation, Model


class DegradationOutput:
    """The file that the estimates of a run go to."""

    def __init__(self, path: Path, is_mean: bool, overwrite: bool, model: Model) -> None:
        """Raises ExistsError if the file is there and must not be replaced."""
        from dmsr_cli.cli.batch.outputs import refuse_existing

        refuse_existing([path], overwrite)
        self.path = path
        self._is_mean = is_mean
        self._overwrite = overwrite
        self._model = model
        self._found: list[Degradation] = []

    def check_jobs(self, jobs: Sequence[Job]) -> None:
        """Raise UsageError for several pictures and one file, without --mean."""
        if len(jobs) != 1 and not self._is_mean:
            raise click.UsageError(
                f"-o names one file for {len(jobs)} pictures: add --mean, or use -o FOLDER"
            )

    def take(self, found: Degradation, job: Job) -> str | None:
        """Write an estimate, or keep what the mean needs of it; returns the file if written."""
        from dmsr_cli.degradation_file import mean_degradation

        if self._is_mean:
            self._found.append(mean_degradation([found]))  # without its noise map, which is large
            return None
        self._write(found, job.source.name)
        return str(self.path)

    def finish(self, report: BatchReport, is_whole: bool) -> None:
        """Write the mean of what was taken; nothing if the run was ended before its end."""
        from dmsr_cli.degradation_file import mean_degradation
        from dmsr_cli.files import display_name

        if not self._is_mean:
            return
        name, count = display_name(self.path), len(self._found)
        if not (is_whole and count):
            report.say(f"{name} was not written: a mean needs all pictures, and at least one")
            return
        what = f"mean of {count} picture{'s' if count > 1 else ''}"
        self._write(mean_degradation(self._found), what)
        report.say(f"{what} -> {name}")

    def _write(self, found: Degradation, source: str) -> None:
        from dmsr_cli.degradation_file import write_degradation

        write_degradation(
            *(self.path, found),
            scale=self._model.scale,
            model=self._model.name,
            source=source,
            replace=self._overwrite,
        )


def degradation_output(
    output: str | None, is_mean: bool, overwrite: bool, model: Model
) -> DegradationOutput | None:
    """The file that -o names; None where it names a folder, or nothing.

    Raises:
        UsageError: there is no file for the mean.
        ExistsError: the file is there and must not be replaced.
    """
    from dmsr_cli.degradation_file import SUFFIX

    if output is not None and output.endswith(SUFFIX):
        return DegradationOutput(Path(output), is_mean, overwrite, model)
    if is_mean:
        raise click.UsageError(f"--mean needs a file to write: add -o NAME{SUFFIX}")
    return None
