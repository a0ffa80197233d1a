"""Consoles without Unicode, and a process as like one on Windows as can be had elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dmsr_cli
from command_line import dmsr
from dmsr_cli import write_image
from dmsr_cli.cli.main import COMMANDS

SOURCE = Path(dmsr_cli.__file__).parents[1]
LIKENESS = Path(__file__).parent / "windows_likeness.py"
HOLDS_A_FILE = (
    "import sys\n"
    "from pathlib import Path\n"
    "from windows_likeness import pretend\n"
    "pretend()\n"
    "from dmsr_cli.locks import hold\n"
    "held = hold(Path(sys.argv[1]), is_new=True)\n"
    "print(held.is_locked, hold(held.path, is_new=False) is None)\n"
    "held.write(b'text\\n')\n"
    "held.unlock()\n"
    "print(hold(held.path, is_new=False).is_locked)\n"
)
ODD_NAME = "żółw→é.png"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, to see what is open")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tiny pictures in it, `holiday/a.png` and one with signs that few encodings have."""
    pixels = np.random.default_rng(0).random((12, 16, 3)).astype(np.float32)
    (tmp_path / "holiday").mkdir()
    for name in ("a.png", ODD_NAME):
        write_image(pixels, tmp_path / "holiday" / name)
    return tmp_path


def run(
    *command: object, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
class TestConsoleWithoutUnicode:
    def test_what_is_found(self, encoding: str, folder: Path) -> None:
        arguments = ("-m", "dmsr_cli", "estimate", "holiday")
        done = run(*arguments, cwd=folder, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert b"2 done" in done.stderr
        if encoding != "ascii":  # where click speaks UTF-8, as nobody can want ASCII
            assert b"\\u0142w\\u2192" in done.stdout

    def test_an_error(self, encoding: str, folder: Path) -> None:
        arguments = ("-m", "dmsr_cli", "upscale", "nö→.png")
        done = run(*arguments, cwd=folder, PYTHONIOENCODING=encoding)
        assert done.returncode == 1
        assert b"no such file" in done.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_plain(command: str) -> None:
    assert dmsr(*command.split(), "--help").stdout.isascii()


@on_linux
class TestLikeWindows:
    def test_all_modules_are_imported(self) -> None:
        done = run(LIKENESS)
        assert done.returncode == 0, done.stderr.decode()
        assert int(done.stdout) > 150

    def test_a_batch(self, folder: Path) -> None:
        """In which pictures are decoded in another process, and claimed, saved and renamed."""
        command = (LIKENESS, "upscale", "holiday", "-s", "2", "--json", "--debug")
        more = ("--save-degradation", "--compare", "--report", "report.jsonl", "--skip-existing")
        first = run(*command, *more, cwd=folder)
        assert first.returncode == 0, first.stderr.decode()
        assert len(first.stdout.splitlines()) == 2
        left = [path.name for path in (folder / "holiday_x2").iterdir()]
        assert not [name for name in left if ".tmp" in name or name.endswith(".claim")]
        again = run(*command, *more, cwd=folder)
        statuses = [json.loads(line)["status"] for line in again.stdout.splitlines()]
        assert statuses == ["skipped", "skipped"], again.stderr.decode()

    def test_what_is_locked_is_written_from_its_beginning(self, tmp_path: Path) -> None:
        path = tmp_path / "held"
        paths = os.pathsep.join((str(SOURCE), str(LIKENESS.parent)))
        done = run("-c", HOLDS_A_FILE, path, PYTHONPATH=paths)
        assert done.stdout.split() == [b"True", b"True", b"True"], done.stderr.decode()
        assert path.read_bytes() == b"text\n"

    def test_names_that_it_cannot_have(self, folder: Path) -> None:
        refused = run(LIKENESS, "upscale", "holiday/a.png", "--suffix", ":x", cwd=folder)
        assert refused.returncode == 2
        assert b"Windows has no names" in refused.stderr
