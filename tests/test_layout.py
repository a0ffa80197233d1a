"""Imports go one way, and what needs no torch imports none."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dmsr_cli

PACKAGE = Path(dmsr_cli.__file__).parent
ORDER = [
    *(
        "errors",
        "safe_names",
        "locks",
        "files",
        "interruption",
        "config",
        "device",
        "processes",
        "memory",
        "images",
        "resizing",
        "video",
        "degradation",
        "paper_scores",
        "scores",
        "metrics",
    ),
    *("visual", "pages", "model", "hub"),
    *("weights_table", "model_facts", "model_card", "safetensors_header", "weight_file"),
    *("weights", "copies", "default_model", "tiling"),
    *("inference", "pipeline", "assessment", "degradation_file", "consistency"),
    *("evaluation", "export", "training", "publishing", "pretrained", "cli"),
]
"""From low to high: a module imports what stands before it, or its own package."""

# `__init__` only names the public objects, and `__main__` only starts the command line.
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).stem[:2] != "__"
) + sorted(path for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)


def unit_of(path: Path) -> str:
    """The module or subpackage of ORDER that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever it stands in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def units_imported(path: Path) -> set[str]:
    """The parts of this package that a file imports."""
    ours = [name.split(".") for name in imports_of(path) if name.startswith("dmsr_cli.")]
    return {parts[1] for parts in ours if not parts[1].startswith("__")}


def others_imported(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    unit = unit_of(path)
    allowed = ORDER[: ORDER.index(unit) + 1]
    assert units_imported(path) <= set(allowed)
    if unit != "cli":
        assert not others_imported(path) & {"click", "rich"}


def test_every_part_has_its_place():
    assert set(map(unit_of, MODULES)) == set(ORDER)


def test_tiling_knows_nothing_of_the_package():
    assert "numpy" in others_imported(PACKAGE / "tiling.py")
    assert "dmsr_cli" not in others_imported(PACKAGE / "tiling.py")


@pytest.mark.parametrize("folder", ["tools", "benchmarks"])
def test_text_files_have_an_encoding(folder):
    """Else it is that of the system, on Windows cp1252, which has few of the signs of our files."""
    places = {"read_text": 0, "write_text": 1}
    for path in sorted((PACKAGE.parent.parent / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                place = places.get(node.func.attr)
                named = "encoding" in {keyword.arg for keyword in node.keywords}
                assert place is None or named or len(node.args) > place, (
                    f"{path.name}, line {node.lineno}: say encoding=..."
                )


def modules_loaded_by(*arguments: str) -> set[str]:
    """Top-level names of what a fresh Python imports while it runs `arguments`."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.split("|")[-1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["-c", "import dmsr_cli; dmsr_cli.__version__"], "dmsr_cli"),
        (["-c", "from dmsr_cli import DmsrError"], "dmsr_cli"),
        (["-m", "dmsr_cli", "--help"], "click"),
        (["-m", "dmsr_cli", "--version"], "click"),
    ],
)
def test_torch_is_not_imported(arguments, needed):
    loaded = modules_loaded_by(*arguments)
    assert needed in loaded
    assert not loaded & {"torch", "numpy", "huggingface_hub", "safetensors"}


def test_public_names_are_there():
    for name in dmsr_cli.__all__:
        assert getattr(dmsr_cli, name) is not None
    assert dir(dmsr_cli) == sorted(dmsr_cli.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = dmsr_cli.no_such_name
