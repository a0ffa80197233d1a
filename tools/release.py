"""Go through the steps before a release, and say which commands publish it; runs none of them.

    python tools/release.py              all steps
    python tools/release.py --list       what they are
    python tools/release.py --only build

Exit status 1 if a step failed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from packaging.version import InvalidVersion, Version

from dmsr_cli.config import read_toml

ROOT = Path(__file__).parent.parent
MAX_WHEEL_EXTRA = 2**20
"""Bytes of a wheel besides the weights."""
BUILD_SITE = ("-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-c", "docs", ".")
"""What `make docs` gives Python, but for the folder."""


class NotReadyError(Exception):
    """Why a step failed, on one line."""


def check_version(root: Path) -> str:
    """The version is one, newer than the last tag."""
    version = version_of(root)
    try:
        parsed = Version(version)
    except InvalidVersion:
        raise NotReadyError(f"{version} is no version; see PEP 440") from None
    if str(parsed) != version:
        raise NotReadyError(f"write {version} as {parsed}")
    if "version" in read_toml(root / "pyproject.toml")["project"]:
        raise NotReadyError("pyproject.toml has a version of its own, beside that of the package")
    released = [Version(tag[1:]) for tag in _output(root, "git", "tag", "--list", "v*").split()]
    if released and parsed <= max(released):
        raise NotReadyError(f"{version} is not newer than v{max(released)}")
    return version


def check_changelog(root: Path) -> str:
    """CHANGELOG.md has a dated section for it, and nothing unreleased."""
    version = version_of(root)
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    bodies = {part.partition("\n")[0].strip(): part.partition("\n")[2].strip() for part in sections}
    if bodies.get("[Unreleased]", ""):
        raise NotReadyError(
            f"what is under [Unreleased] belongs under [{version}] - YEAR-MONTH-DAY"
        )
    dated = rf"\[{re.escape(version)}\] - \d{{4}}-\d{{2}}-\d{{2}}"
    found = [title for title in bodies if re.fullmatch(dated, title)]
    if not found or not bodies[found[0]]:
        raise NotReadyError(f"CHANGELOG.md has no section [{version}] - YEAR-MONTH-DAY with a text")
    return found[0]


def check_tree(root: Path) -> str:
    """All is committed, on main."""
    changed = _output(root, "git", "status", "--porcelain").splitlines()
    if changed:
        raise NotReadyError(f"{len(changed)} files are not committed, as {changed[0][3:]}")
    branch = _output(root, "git", "branch", "--show-current").strip()
    if branch != "main":
        raise NotReadyError(f"this is {branch or 'no branch'}; a release is made from main")
    return _output(root, "git", "rev-parse", "--short", "HEAD").strip()


def check_weights(root: Path) -> str:
    """The bundled weights are those of weights.toml."""
    models = read_toml(root / "weights.toml")["models"]
    bundled = root / "src" / "dmsr_cli" / "bundled"
    wanted = {entry["file"]: entry["sha256"] for entry in models.values()}
    for path in sorted(bundled.glob("*.safetensors")):
        if path.name not in wanted:
            raise NotReadyError(f"{path.name} is bundled, and weights.toml does not know it")
        if hashlib.sha256(path.read_bytes()).hexdigest() != wanted[path.name]:
            raise NotReadyError(f"{path.name} has another SHA-256 than weights.toml says")
    count = len(list(bundled.glob("*.safetensors")))
    if not count:
        raise NotReadyError("no weights are bundled")
    return f"{count} files"


def check_pages(root: Path) -> str:
    """Pages of the documentation that a tool writes are as it writes them now."""
    count = 0
    for tool in sorted((root / "tools").glob("write_*.py")):
        names = runpy.run_path(str(tool))
        if "text" not in names:  # it makes pictures, which differ a little on each machine
            continue
        page = names["TARGET"]
        if not page.exists() or page.read_text(encoding="utf-8") != names["text"]():
            raise NotReadyError(f"{page.name} is out of date; run: python tools/{tool.name}")
        count += 1
    return f"{count} pages"


def check_docs(root: Path) -> str:
    """The documentation can be built without a warning."""
    if not (root / "docs" / "conf.py").exists():
        return "there is no site to build"
    if importlib.util.find_spec("sphinx") is None:
        raise NotReadyError('Sphinx is missing; run: pip install -e ".[docs]"')
    with tempfile.TemporaryDirectory() as out:
        _output(root, sys.executable, *BUILD_SITE, out)
    return "built"


def check_build(root: Path) -> str:
    """Wheel and sdist can be built, with what belongs into them."""
    shutil.rmtree(root / "dist", ignore_errors=True)
    _output(root, sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".")
    wheel = wheel_of(root)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        items = archive.infolist()
    weights = sum(item.file_size for item in items if item.filename.endswith(".safetensors"))
    foreign = [name for name in names if not name.startswith(("dmsr_cli/", "dmsr_cli-"))]
    if foreign or "dmsr_cli/weights.toml" not in names or not weights:
        raise NotReadyError(f"the wheel has {foreign[:1] or 'no weights'}")
    size = wheel.stat().st_size
    if size > weights + MAX_WHEEL_EXTRA:
        raise NotReadyError(f"the wheel has {size - weights:,} bytes besides the weights")
    return f"{wheel.name}, {size / 1e6:.1f} MB (weights unpacked: {weights / 1e6:.1f} MB)"


def check_installation(root: Path) -> str:
    """The wheel, alone in an environment, does the demo without a network."""
    wheel = wheel_of(root)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        venv.create(work / "environment", with_pip=True)
        scripts = work / "environment" / ("Scripts" if os.name == "nt" else "bin")
        python = str(scripts / "python")
        install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel))
        _output(work, python, *install)
        # The libraries are lent by this environment, but for its .pth files, which name checkouts.
        site = _output(work, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
        lent = sysconfig.get_path("purelib") + "\n"
        # Before 3.13, Python reads such files in the encoding of the system alone.
        (Path(site.strip()) / "lent.pth").write_text(lent, encoding="locale")
        shutil.copy(root / "examples" / "cat_noisy.png", work)
        arguments = ("upscale", "cat_noisy.png", "-s", "4", "--json")
        record: dict[str, Any] = json.loads(_output(work, str(scripts / "dmsr"), *arguments))
        printed = _output(work, str(scripts / "dmsr"), "--version")
    if version_of(root) not in printed:
        raise NotReadyError(f"what is installed says {printed.strip()}")
    return f"{record['width']}x{record['height']} pixels in {record['seconds']} s"


STEPS: dict[str, Callable[[Path], str]] = {
    "version": check_version,
    "changelog": check_changelog,
    "tree": check_tree,
    "weights": check_weights,
    "pages": check_pages,
    "docs": check_docs,
    "build": check_build,
    "installation": check_installation,
}


def version_of(root: Path) -> str:
    """The version in the source, which is the only place that has it."""
    text = (root / "src" / "dmsr_cli" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]*)"$', text, re.MULTILINE)
    if found is None:
        raise NotReadyError("src/dmsr_cli/__init__.py has no __version__")
    return found[1]


def wheel_of(root: Path) -> Path:
    """The wheel of this version in dist."""
    found = list((root / "dist").glob(f"dmsr_cli-{version_of(root)}-*.whl"))
    if len(found) != 1:
        raise NotReadyError("there is no wheel of this version in dist; the step build makes it")
    return found[0]


def commands_that_publish(version: str) -> list[str]:
    """What a person runs when all is well."""
    return [
        f'git tag -a v{version} -m "dmsr {version}"',
        f"git push origin main v{version}",
        f"python -m twine upload dist/dmsr_cli-{version}*",
    ]


def _output(folder: Path, *command: str) -> str:
    """What a command prints; NotReadyError with its last line if it fails."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**variables, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "without a word").splitlines()[-1]
        raise NotReadyError(f"{Path(command[0]).name} failed: {said}")
    return done.stdout


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(STEPS)), help="Only this step.")
@click.option("--list", "as_list", is_flag=True, help="Say what the steps are.")
@click.option("--root", type=click.Path(path_type=Path), default=ROOT, help="The checkout.")
def main(only: tuple[str, ...], as_list: bool, root: Path) -> None:
    """Go through the steps before a release; publishes nothing."""
    if as_list:
        for name, step in STEPS.items():
            click.echo(f"{name:13} {step.__doc__}")
        return
    passed = [_passes(name, root) for name in only or STEPS]
    if not all(passed):
        sys.exit(1)
    if not only:
        click.echo("\nAll is ready. What publishes it, and was not run:\n")
        for command in commands_that_publish(version_of(root)):
            click.echo(f"    {command}")


def _passes(name: str, root: Path) -> bool:
    try:
        click.echo(f"ok      {name:13} {STEPS[name](root)}")
    except NotReadyError as error:
        click.echo(f"FAILED  {name:13} {error}")
        return False
    return True


if __name__ == "__main__":
    main()
