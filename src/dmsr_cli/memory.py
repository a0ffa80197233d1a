"""How much memory a computation may take."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from dmsr_cli.processes import launched_here

FALLBACK = 1 << 30
"""Bytes that are taken to be free where the system tells nothing."""

PHYSICAL_SHARE = 0.5
"""Share of the physical memory that is taken to be free where only its size is known."""

NO_LIMIT = 1 << 60
"""Bytes from which a limit means that there is none, as systems write it in many ways."""

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Bytes that new allocations on a device may take, at most; never negative.

    It holds for this moment: other processes allocate too, and memory that torch keeps may lie
    in pieces that are too small. What cannot be read is left out; if that is all, `FALLBACK`.
    """
    if device.type == "cuda":
        known = [_cuda_memory(device)]
    elif device.type == "mps":
        known = [*_mps_memory(), *_system_memory()]  # the GPU shares the system's memory
    else:
        known = _system_memory()
    return max(0, min(known, default=FALLBACK))


def _cuda_memory(device: torch.device) -> int:
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused


def _mps_memory() -> list[int]:
    # Not every build of PyTorch has both.
    names = ("recommended_max_memory", "current_allocated_memory")
    if not all(hasattr(torch.mps, name) for name in names):
        return []
    return [torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()]


def _system_memory() -> list[int]:
    """All that bounds the memory of this process: the machine, its container, its own limits."""
    if sys.platform == "win32":
        return _windows_memory()
    machine = _linux_memory() or _posix_memory()
    # What torchrun started beside this process takes as much.
    shares = [free // launched_here() for free in (*machine, *_cgroup_memory())]
    return [*shares, *_process_limits()]


def _linux_memory() -> list[int]:
    available = _field(PROC / "meminfo", "MemAvailable:")
    return [] if available is None else [available * 1024]


def _posix_memory() -> list[int]:
    """The free pages, or a share of all pages where the system does not count the free ones."""
    if sys.platform == "win32":
        return []
    for name, share in (("SC_AVPHYS_PAGES", 1.0), ("SC_PHYS_PAGES", PHYSICAL_SHARE)):
        with contextlib.suppress(ValueError, OSError):  # a name that this system lacks
            pages = os.sysconf(name)
            if pages >= 0:  # -1: cannot be told
                return [int(pages * mmap.PAGESIZE * share)]
    return []


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total_physical", ctypes.c_uint64),
        ("available_physical", ctypes.c_uint64),
        ("total_page_file", ctypes.c_uint64),
        ("available_page_file", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("available_virtual", ctypes.c_uint64),
        ("available_extended_virtual", ctypes.c_uint64),
    )


def _windows_memory() -> list[int]:
    """The free physical memory, and what this process may commit."""
    if sys.platform != "win32":
        return []
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return []
    return [status.available_physical, status.available_page_file]


@dataclass(frozen=True)
class _CgroupVersion:
    """Where a version of Linux control groups keeps what."""

    folder: str
    """Root of the memory controller's groups, below CGROUPS."""
    limit: str
    used: str
    cache: str
    """Field of memory.stat: page cache that the kernel drops when memory is short."""


_VERSION_1 = _CgroupVersion(
    "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
)
_VERSION_2 = _CgroupVersion(".", "memory.max", "memory.current", "inactive_file")


def _cgroup_memory() -> list[int]:
    """What the limits of this process's groups, and of all groups around them, leave."""
    remaining = [
        _cgroup_remaining(group, version)
        for version, path in _cgroup_paths()
        for group in _groups_around(CGROUPS / version.folder, path)
    ]
    return [count for count in remaining if count is not None]


def _cgroup_paths() -> list[tuple[_CgroupVersion, str]]:
    """The groups that this process is in, as paths below the root of their version."""
    # In a container the root may be its own group, whatever path the process reads here.
    paths = [(_VERSION_1, "/"), (_VERSION_2, "/")]
    for line in _read(PROC / "self" / "cgroup").split("\n"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            paths.append((_VERSION_1, path))
        elif hierarchy == "0" and not controllers:
            paths.append((_VERSION_2, path))
    return paths


def _groups_around(root: Path, path: str) -> list[Path]:
    """The group at `path` and all its parents up to the root."""
    group = PurePosixPath(path.lstrip("/"))
    if ".." in group.parts:  # it lies outside of what this container sees
        return [root]
    return [root / part for part in (group, *group.parents)]


def _cgroup_remaining(group: Path, version: _CgroupVersion) -> int | None:
    limit = _number(_read(group / version.limit))
    if limit is None:
        return None
    used = _number(_read(group / version.used)) or 0
    cache = _field(group / "memory.stat", version.cache) or 0
    return limit - max(0, used - cache)


def _process_limits() -> list[int]:
    """What the limits on address space and on data leave; all of them if their use is unknown."""
    if sys.platform == "win32":
        return []
    import resource  # not there on Windows

    remaining = []
    pages = _read(PROC / "self" / "statm").split()
    for name, column in (("RLIMIT_AS", 0), ("RLIMIT_DATA", 5)):
        if not hasattr(resource, name):  # some systems lack RLIMIT_AS
            continue
        limit, _ = resource.getrlimit(getattr(resource, name))
        if 0 <= limit < NO_LIMIT:  # without a limit it is -1 or huge
            used = _number(pages[column]) if column < len(pages) else None
            remaining.append(limit - (used or 0) * mmap.PAGESIZE)
    return remaining


def _field(path: Path, name: str) -> int | None:
    """The number after `name` in a file of names and numbers."""
    for line in _read(path).split("\n"):
        words = line.split()
        if len(words) > 1 and words[0] == name:
            return _number(words[1])
    return None


def _number(text: str) -> int | None:
    """A count below NO_LIMIT; None for "max", for what means no limit, and for what is no count."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    number = int(text)
    return number if number < NO_LIMIT else None


def _read(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return os.fsdecode(path.read_bytes())
    except (OSError, ValueError):  # ValueError: a path with a null byte
        return ""
