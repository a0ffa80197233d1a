"""The documentation cannot drift: help texts, links and examples are checked."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from dmsr_cli.cli.batch import fingerprint

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


def test_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/*.md"):
        assert f"(docs/{page.name}" in readme, f"README.md has no link to {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_is_unfinished(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"TODO|FIXME|[A-Z]+_[A-Z]+_?(TABLE|EXTRACTOR|RESTORER)", text)


def test_settings_that_count_for_skipping_are_listed() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    found = re.search(r"Settings that count .*?\n\n", text, re.DOTALL)
    assert found is not None
    listed = set(re.findall(r"`--([a-z-]+)`", found[0]))
    compared = {*fingerprint._DEFAULTS, *fingerprint._FILES} - {"provenance"}
    always = {"scale", "size", "passes", "model", "no-provenance"}
    assert listed == {name.replace("_", "-") for name in compared} | always
