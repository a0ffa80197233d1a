"""What became of the pictures of a batch: counted while it runs, told when it ends."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dmsr_cli.cli.batch.inputs import Inputs, remarks
from dmsr_cli.cli.batch.overlap import Stopwatch

FAILURES_TOLD = 20
"""Failures that the summary names."""
ON_SCREEN = 20
"""The lines of so many pictures are still to be seen when the summary comes."""


class Tally:
    """Counts results; what it keeps does not grow with the batch."""

    def __init__(self) -> None:
        self.counts = {"ok": 0, "skipped": 0, "failed": 0}
        self.inputs = Inputs()
        """What was found besides the pictures that are counted."""
        self.pixels = 0
        """Of the inputs that were restored, all frames together."""
        self.failures: list[str] = []
        self._reasons: Counter[str] = Counter()
        self.stopwatch = Stopwatch()
        """Runs while there is something to do."""

    @property
    def total(self) -> int:
        """Inputs that have been told."""
        return sum(self.counts.values())

    def add(self, record: dict[str, Any]) -> None:
        """Count the record of an input that has ended."""
        status = record["status"]
        self.counts[status] += 1
        if status == "ok":
            self.pixels += record.get("input_pixels") or 0
        elif status == "skipped":
            self._reasons[record.get("reason") or "exists already"] += 1
        elif len(self.failures) < FAILURES_TOLD:
            self.failures.append(record["error"])

    def lines(self, not_begun: int | None) -> list[str]:
        """The summary.

        Args:
            not_begun: how many were not, because somebody ended the batch; None if nobody did.
        """
        failed = self.counts["failed"]
        lines = [self._counts(not_begun)]
        if len(self._reasons) > 1:
            told = self._reasons.most_common(FAILURES_TOLD)
            lines += [f"  {number:,} skipped: {reason}" for reason, number in told]
        if failed and self.total > ON_SCREEN:
            lines += [f"  failed: {text}" for text in self.failures]
            if failed > len(self.failures):
                lines.append(f"  and {failed - len(self.failures):,} more: see --report")
        return lines

    def _counts(self, not_begun: int | None) -> str:
        done, skipped, failed = self.counts.values()
        text = f"{done:,} done, {skipped:,} skipped, {failed:,} failed"
        if not_begun is not None:
            text = f"interrupted: {text}, {not_begun:,} not begun"
        text = ", ".join((text, *remarks(self.inputs)))
        speed = f"{speed_text(self.pixels, self.stopwatch.seconds)}, " if self.pixels else ""
        return f"{text} ({speed}{duration_text(self.stopwatch.seconds)})"


def speed_text(pixels: float, seconds: float) -> str:
    """Megapixels of inputs per second: 4.1 MP/s, or 0.012 MP/s."""
    speed = pixels / 1e6 / max(seconds, 1e-3)
    return f"{speed:.1f} MP/s" if speed >= 1 else f"{speed:.2g} MP/s"


def duration_text(seconds: float) -> str:
    """A time as people say it: 4.2 s, 42 s, 8 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
