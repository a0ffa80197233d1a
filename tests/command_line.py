"""The real `dmsr` command in a subprocess, for the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def dmsr(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `dmsr` with one thread and no terminal; returns output and exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "dmsr_cli", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
