"""Memory and CPU time of a process and all that it has started; as /proc of Linux tells them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Usage:
    memory: int
    """Resident bytes of all processes; what they share counts for each."""
    cpu: float
    """Seconds of all processes, and of those that they have waited for."""
    count: int


def usage_of(process: int) -> Usage:
    """What a process and its descendants use now; nothing if it has ended."""
    memory, cpu = 0, 0.0
    family = _family(process)
    for member in family:
        with contextlib.suppress(OSError):
            fields = _fields(member)
            cpu += sum(int(field) for field in fields[11:15]) / TICK
            memory += int(fields[21]) * PAGE
    return Usage(memory, cpu, len(family))


def _family(process: int) -> list[int]:
    family = [process]
    for member in family:
        for children in PROC.glob(f"{member}/task/*/children"):
            with contextlib.suppress(OSError):
                family += [int(child) for child in children.read_text("ascii").split()]
    return family


def _fields(process: int) -> list[str]:
    """Of /proc/N/stat, from the third on: the second, the name, may have spaces."""
    return (PROC / str(process) / "stat").read_text("utf-8").rpartition(")")[2].split()
