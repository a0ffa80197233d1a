"""The blocks of code in the documents: Python runs, recipes and JSON are read, fields exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import dmsr_cli
from dmsr_cli.cli.main import main
from dmsr_cli.degradation_file import read_degradation
from dmsr_cli.training.settings import Recipe, read_recipe
from documents import PAGES, ROOT, Block, blocks
from pictures import noise

TESTED_ELSEWHERE = {"export.md"}
"""Pages whose programs need files that the page's commands make first."""
WITH_PYTHON = [
    page
    for page in PAGES
    if page.name not in TESTED_ELSEWHERE
    and any(block.language == "python" for block in blocks(page))
]
RECIPES = [
    block
    for page in PAGES
    for block in blocks(page)
    if block.language == "toml" or re.match(r"\[(training|model)\]", block.text)
]
NOT_FIELDS = {"ok", "skipped", "failed", "planned", "summary", "crop", "models", "true", "false"}
"""Words of the paragraphs about `--json` that are values, or fields of other objects."""


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of a page, in order, as one program, on a tiny picture."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    dmsr_cli.write_image(pixels, "photo.png")
    programs = [block.text for block in blocks(page) if block.language == "python"]
    exec("\n".join(programs), {})
    if "photo_x4.png" in "".join(programs):
        assert dmsr_cli.read_image("photo_x4.png").pixels.shape == (80, 120, 3)


@pytest.mark.parametrize("block", RECIPES, ids=lambda block: block.page.name)
def test_recipes_are_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(block.text)
    recipe = read_recipe(str(tmp_path / "recipe.toml"))
    assert isinstance(recipe, Recipe)


def test_degradation_file_is_read(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-it-works.md"
    (text,) = [block.text for block in blocks(page) if "dmsr-degradation" in block.text]
    kernel = json.dumps(np.full((15, 15), 1 / 225).tolist())
    path = tmp_path / "photo.dmsr.json"
    path.write_text(
        text.replace("[15 rows of 15 numbers]", kernel).replace('"kernel_width": 1.62, ', "")
    )
    assert read_degradation(path) is not None


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "photo.png"
    dmsr_cli.write_image(noise(24, 32, 3), path)
    return path


@pytest.mark.parametrize(
    ("command", "more"),
    [("upscale", ["--denoise", "0.5"]), ("estimate", [])],
)
def test_fields_of_json(
    command: str, more: list[str], picture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command line page names all fields, and none that are not there."""
    assert main([command, str(picture), "--json", *more]) == 0
    record = json.loads(capfd.readouterr().out)
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    begin = page.index(f"`dmsr {command} --json` prints one object")
    end = page.index("`--report`" if command == "upscale" else "`--where` compares", begin)
    named = set(re.findall(r"`([a-z_]+)`", page[begin:end])) - NOT_FIELDS
    overrides = {"degradation", "kernel", "kernel_width", "noise_level", "denoise"}
    assert set(record) <= named
    assert named <= {*record, *overrides, "upscale"}
