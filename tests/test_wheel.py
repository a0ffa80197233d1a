"""The built wheel and sdist: what is in them, and the main job where the source is out of sight."""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from trove_classifiers import classifiers as known_classifiers

from dmsr_cli import __version__
from dmsr_cli.weights import read_weights_table

ROOT = Path(__file__).parent.parent


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a `wheel` or an `sdist`."""
    # The build tools are in the environment already: nothing is fetched.
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    (path,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return email.message_from_bytes(archive.read(name))


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
    assert not [name for name in names if "__pycache__" in name]
    weights = sum(entry.size for entry in read_weights_table().values())
    assert wheel.stat().st_size < weights + 2**20, "docs/installation.md says what it is made of"


def test_metadata(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("dmsr-cli", __version__)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# dmsr\n")  # type: ignore[union-attr]
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    found = metadata.get_all("Classifier", [])
    assert set(found) <= known_classifiers
    versions = [name.rpartition(" ")[2] for name in found if "Python :: 3." in name]
    required = SpecifierSet(metadata["Requires-Python"])
    assert versions
    assert all(version in required for version in versions)
    assert not any(version in required for version in ("3.8", "3.9"))
    assert metadata.get_all("Project-URL") is None, "there is no public home yet"
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        assert requirement.url is None
        assert requirement.specifier or requirement.name == "dmsr-cli", f"{text}: no lower bound"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the repository, not an sdist")
def test_sdist_has_what_git_has(unpacked: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    packed = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}
    files = {name for name in packed if (unpacked / name).is_file()}
    assert files - tracked == {"PKG-INFO"}
    assert tracked - files == set()


def test_wheel_of_the_sdist_is_the_same(unpacked: Path, wheel: Path, tmp_path: Path) -> None:
    again = build("wheel", unpacked, tmp_path)
    before, after = zipfile.ZipFile(wheel), zipfile.ZipFile(again)
    assert {item.filename: item.CRC for item in before.infolist()} == {
        item.filename: item.CRC for item in after.infolist()
    }


def test_tests_of_the_sdist_are_found(unpacked: Path) -> None:
    source = str(unpacked / "src")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/test_layout.py"],
        cwd=unpacked,
        env={**os.environ, "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "test_imports_go_one_way" in done.stdout


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh one with the wheel, which sees nothing of the source tree."""
    folder = tmp_path_factory.mktemp("fresh") / "environment"
    venv.create(folder, with_pip=True)
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel)
    subprocess.run([scripts_of(folder) / "python", *install], check=True, capture_output=True)
    # The dependencies are lent by this environment, which knows the package only by its source:
    # a path file gives its site-packages but not the .pth files in it.
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = run(folder, "python", "-c", where, cwd=folder).stdout
    (Path(site.strip()) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def scripts_of(environment: Path) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin")


def run(
    environment: Path, program: str, *arguments: object, cwd: Path
) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = shutil.which(program, path=str(scripts_of(environment)))
    assert found is not None, f"{program} is not installed"
    return subprocess.run(
        [found, *map(str, arguments)],
        cwd=cwd,
        env={**variables, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "empty")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_the_installed_one(environment: Path, tmp_path: Path) -> None:
    where = "import dmsr_cli; print(dmsr_cli.__file__)"
    assert str(environment) in run(environment, "python", "-c", where, cwd=tmp_path).stdout
    known = "from importlib.metadata import version; print(version('dmsr-cli'))"
    assert run(environment, "python", "-c", known, cwd=tmp_path).stdout.strip() == __version__


@pytest.mark.parametrize("program", [["dmsr"], ["python", "-m", "dmsr_cli"]], ids=" ".join)
def test_version(environment: Path, program: list[str], tmp_path: Path) -> None:
    done = run(environment, *program, "--version", cwd=tmp_path)
    assert done.stdout == f"dmsr, version {__version__}\n", done.stderr


def test_main_job_in_a_fresh_environment(environment: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "cat_noisy.png", tmp_path)
    arguments = ("upscale", "cat_noisy.png", "-s", "4", "-o", "cat.png", "--json")
    done = run(environment, "dmsr", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["status"], record["width"], record["height"]) == ("ok", 1280, 880)
    assert (tmp_path / "cat.png").stat().st_size > 100_000
