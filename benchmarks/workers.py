"""Jobs in processes of their own, with their time and memory; for the other benchmarks.

Needs the standard library and NumPy alone, so that any interpreter can run a worker. A worker
reads one JSON object a line from its input and answers each with one; the first line that it
writes holds facts about itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROC = Path("/proc/self")


def resident() -> int:
    """Bytes that this process holds in memory; where only the peak is known, the peak so far."""
    return _status("VmRSS") or _lifetime_peak()


def peak_resident() -> int:
    """The most bytes that it held since `reset_peak`, or since its start where there is none."""
    return _status("VmHWM") or _lifetime_peak()


def reset_peak() -> None:
    """Let the peak begin anew; only Linux can."""
    with contextlib.suppress(OSError):
        (PROC / "clear_refs").write_text("5", "ascii")


def _status(field: str) -> int:
    """A size from /proc in bytes, 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in (PROC / "status").read_text("utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def _lifetime_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(
    restore: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    before: int,
    facts: Mapping[str, Any],
) -> None:
    """Answer jobs until the input ends: pictures from .npy files, with time and memory.

    Args:
        restore: (h, w, 3) uint8 to (h * scale, w * scale, 3) float32.
        before: bytes that were resident when nothing but libraries was loaded.
        facts: what the first line says.
    """
    print(json.dumps(dict(facts)), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        picture = np.load(job["picture"])
        reset_peak()
        start, worked = time.perf_counter(), time.process_time()
        restored = restore(picture)
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        memory = peak_resident() - before
        if job["result"]:
            np.save(job["result"], restored)
        del restored
        print(json.dumps({"seconds": seconds, "cpu": worked, "memory": memory}), flush=True)


class Worker:
    """The other end of `serve`: a process that waits for jobs."""

    def __init__(self, name: str, command: Sequence[object], threads: int) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )

    def ready(self) -> dict[str, Any]:
        """Wait until it has loaded; its facts."""
        return self._answer()

    def run(self, picture: Path, result: Path | None = None) -> dict[str, float]:
        """Restore the picture in a .npy file: seconds, CPU seconds, bytes above the libraries."""
        assert self._process.stdin is not None
        job = {"picture": str(picture), "result": str(result) if result else None}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: its process ended; what it wrote above says why")
        answer: dict[str, Any] = json.loads(line)
        return answer
