"""Figures in the documents that can be checked without measuring anew."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dmsr_cli.config import DMSRConfig
from dmsr_cli.model import DMSR
from dmsr_cli.paper_scores import TABLE_1
from dmsr_cli.training.settings import read_recipe
from dmsr_cli.weights_table import read_weights_table
from documents import ROOT


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def tables(text: str) -> Iterator[list[list[str]]]:
    """The cells of each Markdown table, the head first, without the line of dashes."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        lines = [line.strip("|\n").split("|") for line in block.splitlines(keepends=True)]
        yield [[cell.strip() for cell in line] for line in lines if set("".join(line)) - set("-: ")]


def table(page: str, head: str) -> list[list[str]]:
    """The first table of a page whose head has a column of this name, without the head."""
    return next(rows[1:] for rows in tables(text_of(page)) if head in rows[0])


def test_scores_of_the_readme() -> None:
    """Bold ones are those of weights.toml, those beside them the paper's."""
    published = read_weights_table()
    rows = table("README.md", "kernel width")
    assert len(rows) == 6
    for width, noise, *columns in rows:
        for scale, ours, paper in zip((2, 3, 4), columns[::2], columns[1::2], strict=True):
            score = published[f"dmsr-lite-x{scale}"].psnr[f"Set5 [{width}, {noise}]"]
            assert ours.endswith(f"**{score:.2f}**"), (scale, width, noise)
            expected = TABLE_1["DMSR"]["Set5"][scale][float(width), float(noise)][0]
            assert float(paper) == expected, (scale, width, noise)


def test_the_papers_scores_in_the_experiments() -> None:
    text = text_of("docs/experiments.md")
    checked = 0
    for scale in (2, 3, 4):
        section = text[text.index(f"`dmsr-lite-x{scale}` on Set5, PSNR / SSIM") :]
        for width, noise, _, ours, _, paper, above in next(tables(section))[1:]:
            if not paper:
                continue
            psnr, ssim = TABLE_1["DMSR"]["Set5"][scale][float(width), float(noise)]
            assert paper == f"{psnr:.2f} / {ssim:.4f}"
            assert float(above) == pytest.approx(float(ours.split()[0]) - psnr, abs=0.011)
            checked += 1
    assert checked == 21


def parameters(config: DMSRConfig) -> tuple[int, int]:
    """Of extractor and restorer, counted without memory for them."""
    with torch.device("meta"):
        network = DMSR(config)
    parts = (network.extractor, network.restorer)
    extractor, restorer = (sum(p.numel() for p in part.parameters()) for part in parts)
    return extractor, restorer


def test_counts_of_parameters() -> None:
    (full, lite) = table("docs/how-it-works.md", "extractor")
    for row, recipe in ((full, "full"), (lite, "lite")):
        model = read_recipe(recipe).model
        counts = [parameters(dataclasses.replace(model, scale=scale)) for scale in (2, 3, 4)]
        assert row[1] == f"{counts[0][0]:,}"
        assert row[2] == " / ".join(f"{restorer:,}" for _, restorer in counts)
    sizes = {row[0]: row[1] for row in table("docs/performance.md", "M parameters")}
    for name in ("lite", "full"):
        count = sum(parameters(dataclasses.replace(read_recipe(name).model, scale=4)))
        assert sizes[name] == f"{count / 1e6:.2f}"
    for name, entry in read_weights_table().items():
        assert sum(parameters(entry.config)) == entry.parameters, name


def test_sizes_of_prints() -> None:
    rows = table("docs/photographs.md", "print")
    assert len(rows) == 6
    for size, *columns in rows:
        sides = [float(side) for side in re.findall(r"[\d.]+", size.partition("cm")[0])]
        for dots, pixels in zip((300, 150), columns, strict=True):
            assert pixels == " x ".join(f"{side / 2.54 * dots:.0f}" for side in sides), size


def test_pictures_are_small() -> None:
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 300_000, path.name


TABLE_PAGES = sorted(ROOT.glob("docs/*.md"))
FIGURE = re.compile(r"(?=.*\d)[-+*\d.,/ %()]+")
NAMED = re.compile(
    r"python benchmarks/|python tests/|dmsr (?:train|evaluate|upscale|estimate)[ `]|make |by hand"
)
WITHOUT_COMMAND = {"Sizes", "Which size"}
"""Sections whose figures are counted or computed, by the tests above."""


@pytest.mark.parametrize("page", TABLE_PAGES, ids=lambda page: page.name)
def test_tables_name_their_command(page: Path) -> None:
    """Every section with a table of figures says what gave them."""
    text = page.read_text(encoding="utf-8")
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        cells = [cell for rows in tables(section) for row in rows[1:] for cell in row]
        figures = [cell for cell in cells if FIGURE.fullmatch(cell)]
        if len(figures) > 3 and title not in WITHOUT_COMMAND:
            assert NAMED.search(section), f"{page.name}: {title}"
