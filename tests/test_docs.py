"""The documentation cannot drift: help texts, links and examples are checked."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])


@pytest.mark.parametrize(
    ("page", "tool_name"), [("cli.md", "write_cli_docs"), ("models.md", "write_models_page")]
)
def test_pages_are_what_their_tool_writes(page: str, tool_name: str) -> None:
    path = ROOT / "tools" / f"{tool_name}.py"
    spec = importlib.util.spec_from_file_location(tool_name, path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == tool.text(), (
        f"run: python tools/{tool_name}.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in slugs, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_is_unfinished(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"TODO|FIXME|[A-Z]+_[A-Z]+_?(TABLE|EXTRACTOR|RESTORER)", text)


def test_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of the page, in order, as one program, on a tiny picture."""
    import dmsr_cli

    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    dmsr_cli.write_image(pixels, "photo.png")
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    exec("\n".join(blocks), {})
    assert dmsr_cli.read_image("photo_x4.png").pixels.shape == (80, 120, 3)
