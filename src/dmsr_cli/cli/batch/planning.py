"""What `dmsr upscale` is about to do: from its arguments to jobs, once or again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dmsr_cli.cli.batch.inputs import Inputs
from dmsr_cli.cli.batch.jobs import Job, Naming, plan_jobs

if TYPE_CHECKING:
    from dmsr_cli.cli.batch.results import Results


@dataclass
class Planner:
    """Plans jobs of inputs, and keeps what was found besides."""

    output: str | None
    recursive: bool
    naming: Naming
    results: Results
    found: Inputs = field(default_factory=Inputs)
    """Of the last planning."""

    def jobs_of(self, inputs: Sequence[str], listed: Sequence[str] | None = None) -> list[Job]:
        """The jobs of these inputs, as `plan_jobs` has them."""
        planned = plan_jobs(inputs, self.output, self.recursive, self.naming, listed, self.results)
        self.found = planned.inputs
        return planned.jobs
