"""The steps before a release, on a tiny repository in which each thing can be wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


release = load_tool()


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository that is ready to be released as 1.2.0; v1.1.0 was the last one."""
    package = tmp_path / "src" / "dmsr_cli"
    (package / "bundled").mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "1.2.0"\n')
    (package / "bundled" / "a.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "weights.toml").write_text(
        f'[models.a-x4]\nfile = "a.safetensors"\nsha256 = "{digest}"\n'
    )
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndynamic = ["version"]\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-31\n\n- News.\n"
    )
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "All")
    git(tmp_path, "tag", "v1.1.0")
    return tmp_path


def run(root: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(release.main, ["--root", str(root), *arguments])
    return done.exit_code, done.output


def set_version(root: Path, version: str) -> None:
    (root / "src" / "dmsr_cli" / "__init__.py").write_text(f'__version__ = "{version}"\n')


def replace(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))


QUICK = ("version", "changelog", "tree", "weights", "pages", "docs")


def test_ready(root: Path) -> None:
    status, output = run(root, *[word for name in QUICK for word in ("--only", name)])
    assert status == 0, output
    assert output.count("ok ") == len(QUICK)


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("1.1.0", "not newer than v1.1.0"),
        ("1.0.9", "not newer than v1.1.0"),
        ("new", "PEP 440"),
        ("1.2.0-rc1", "as 1.2.0rc1"),
    ],
)
def test_version(root: Path, version: str, why: str) -> None:
    set_version(root, version)
    status, output = run(root, "--only", "version")
    assert status == 1
    assert why in output


def test_a_second_place_for_the_version(root: Path) -> None:
    replace(root, "pyproject.toml", 'dynamic = ["version"]', 'version = "1.2.0"')
    assert "of its own" in run(root, "--only", "version")[1]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[Unreleased]\n", "[Unreleased]\n\n- More.\n", "belongs under [1.2.0]"),
        (" - 2026-01-31", "", "no section [1.2.0]"),
        ("[1.2.0]", "[1.1.0]", "no section [1.2.0]"),
        ("- News.\n", "", "no section [1.2.0]"),
    ],
)
def test_changelog(root: Path, old: str, new: str, why: str) -> None:
    replace(root, "CHANGELOG.md", old, new)
    status, output = run(root, "--only", "changelog")
    assert status == 1
    assert why in output


def test_something_not_committed(root: Path) -> None:
    (root / "new.txt").write_text("new")
    status, output = run(root, "--only", "tree")
    assert status == 1
    assert "new.txt" in output


def test_another_branch(root: Path) -> None:
    git(root, "checkout", "-qb", "feature")
    assert "this is feature" in run(root, "--only", "tree")[1]


def test_other_weights(root: Path) -> None:
    bundled = root / "src" / "dmsr_cli" / "bundled"
    (bundled / "a.safetensors").write_bytes(b"others")
    assert "another SHA-256" in run(root, "--only", "weights")[1]
    (bundled / "a.safetensors").rename(bundled / "b.safetensors")
    assert "does not know it" in run(root, "--only", "weights")[1]
    (bundled / "b.safetensors").unlink()
    assert "no weights" in run(root, "--only", "weights")[1]


def test_a_page_out_of_date(root: Path) -> None:
    (root / "tools").mkdir()
    tool = 'from pathlib import Path\nTARGET = Path(__file__).parent.parent / "page.md"\n'
    (root / "tools" / "write_page.py").write_text(tool + "def text(): return 'new'\n")
    (root / "tools" / "write_pictures.py").write_text(tool)
    for content in (None, "old"):
        if content is not None:
            (root / "page.md").write_text(content)
        status, output = run(root, "--only", "pages")
        assert status == 1
        assert "page.md is out of date; run: python tools/write_page.py" in output
    (root / "page.md").write_text("new")
    assert run(root, "--only", "pages") == (0, "ok      pages         1 pages\n")


def test_the_site_is_built_as_by_make() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"/python {' '.join(release.BUILD_SITE)} build/site\n" in makefile


def test_nothing_to_install(root: Path) -> None:
    status, output = run(root, "--only", "installation")
    assert status == 1
    assert "there is no wheel" in output


def test_nothing_is_published(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {name: release.STEPS[name] for name in QUICK}
    monkeypatch.setattr(release, "STEPS", steps)
    commands = []
    real_run = subprocess.run

    def noted(command: list[str], **options: object) -> object:
        commands.append(" ".join(command))
        return real_run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(release.subprocess, "run", noted)
    status, output = run(root)
    assert status == 0, output
    assert "git tag -a v1.2.0" in output
    assert commands
    assert not [command for command in commands if "push" in command or "tag -a" in command]


def test_list() -> None:
    done = CliRunner().invoke(release.main, ["--list"])
    assert all(name in done.output for name in release.STEPS)


def test_this_version_is_written_once() -> None:
    from dmsr_cli import __version__

    assert release.version_of(ROOT) == __version__
    assert f'"{__version__}"' not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="needs make")
def test_make_lists_its_targets() -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "quick", "format", "coverage", "build", "release-check"):
        assert f"make {target} " in done.stdout
