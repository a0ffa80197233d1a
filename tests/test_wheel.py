"""The built wheel, installed where the source tree is out of sight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from dmsr_cli.weights import read_weights_table

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    # The build tools are in the environment already: nothing is fetched.
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {"weights.toml", "py.typed", "training/recipes/lite.toml"}
    kinds = (
        "common.css",
        "report_page.css",
        "report_page.js",
        "compare_page.css",
        "compare_page.js",
    )
    expected |= {f"pages/{name}" for name in kinds}
    expected |= {f"bundled/{entry.file}" for entry in read_weights_table().values()}
    assert {f"dmsr_cli/{name}" for name in expected} <= names
    assert not [name for name in names if not name.startswith(("dmsr_cli/", "dmsr_cli-"))]
    assert wheel.stat().st_size < 80 * 2**20


def test_main_job_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
    )
    # The dependencies are lent by this environment, which knows the package only by its source:
    # a path file gives its site-packages but not the .pth files in it.
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    lent = Path(site.stdout.strip()) / "lent.pth"
    lent.write_text(sysconfig.get_path("purelib") + "\n")
    program = (
        "import sys, dmsr_cli, dmsr_cli.cli.main;"
        "print(dmsr_cli.__file__, file=sys.stderr);"
        "sys.exit(dmsr_cli.cli.main.main())"
    )
    picture = ROOT / "examples" / "cat_noisy.png"
    done = subprocess.run(
        [python, "-c", program, "upscale", picture, "-s", "4", "-o", "cat.png", "--json"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(environment) in done.stderr.splitlines()[0]
    record = json.loads(done.stdout)
    assert (record["status"], record["width"], record["height"]) == ("ok", 1280, 880)
    assert (tmp_path / "cat.png").stat().st_size > 100_000
