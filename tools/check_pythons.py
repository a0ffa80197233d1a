"""Check that other interpreters than this one can run dmsr, as far as that goes without torch.

    python tools/check_pythons.py PYTHON...

Each interpreter needs click and rich, and for more modules to be imported numpy, Pillow, imageio,
tifffile and imagecodecs. It compiles all of src, imports every module whose libraries it has, and
runs `dmsr --version` and the help of each command. Prints a line for each; exit status 1 if one
failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
PROBE = """
import importlib, json, pathlib, pkgutil, platform, sys
root = pathlib.Path(sys.argv[1])
problems, imported, lacking = [], 0, {}
for path in sorted(root.rglob("*.py")):
    try:
        compile(path.read_bytes(), str(path), "exec")
    except SyntaxError as error:
        problems.append(f"{path.relative_to(root)}:{error.lineno}: {error.msg}")
import dmsr_cli
for found in pkgutil.walk_packages(dmsr_cli.__path__, "dmsr_cli.", onerror=lambda name: None):
    if found.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(found.name)
        imported += 1
    except ModuleNotFoundError as error:
        if error.name.startswith("dmsr_cli"):
            problems.append(f"{found.name}: {error}")
        lacking[error.name] = lacking.get(error.name, 0) + 1
    except Exception as error:
        problems.append(f"{found.name}: {type(error).__name__}: {error}")
from dmsr_cli.cli.main import COMMANDS
version = platform.python_version()
print(json.dumps([version, problems, imported, lacking, list(COMMANDS)]))
"""


@click.command()
@click.argument("pythons", nargs=-1, required=True, metavar="PYTHON...")
def main(pythons: tuple[str, ...]) -> None:
    """Check that these interpreters can run dmsr, as far as that goes without torch."""
    results = [check(python) for python in pythons]
    sys.exit(0 if all(results) else 1)


def check(python: str) -> bool:
    """Check one interpreter, and print what was found."""
    probed = _run(python, "-c", PROBE, str(ROOT / "src"))
    if probed.returncode != 0:
        click.echo(f"{python}: failed: {_last_line(probed.stderr)}")
        return False
    version, problems, imported, lacking, commands = json.loads(probed.stdout)
    calls = [["--version"], ["--help"], *([name, "--help"] for name in commands)]
    for call in calls:
        done = _run(python, "-m", "dmsr_cli", *call)
        if done.returncode != 0:
            problems.append(f"dmsr {' '.join(call)}: {_last_line(done.stderr)}")
    absent = ", ".join(f"{count} for want of {name}" for name, count in lacking.items())
    click.echo(f"Python {version}: {imported} modules imported, {absent or 0} not; all compiled")
    click.echo(f"Python {version}: {len(calls)} calls of dmsr, {len(problems)} problems")
    for problem in problems:
        click.echo(f"  {problem}")
    return not problems


def _run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["without a word"])[-1]


if __name__ == "__main__":
    main()
