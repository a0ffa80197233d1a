"""The documentation as a site: built strictly, complete, searchable, and loading nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dmsr_cli

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_parser", reason="needs the extra docs")
pytest.importorskip("furo", reason="needs the extra docs")

ROOT = Path(__file__).parent.parent
LOADED = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?(https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it: a warning, such as a link that leads nowhere, is an error."""
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-c", "docs"]
    done = subprocess.run(
        [*build, "-d", str(out / "doctrees"), ".", str(out / "html")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def page(site: Path, name: str) -> str:
    return (site / f"{name}.html").read_text(encoding="utf-8")


def test_every_page_is_in_the_contents(site: Path) -> None:
    contents = page(site, "docs/index")
    for source in ROOT.glob("docs/*.md"):
        assert (site / "docs" / f"{source.stem}.html").is_file()
        if source.stem != "index":
            assert f'href="{source.stem}.html"' in contents
    assert 'href="../CHANGELOG.html"' in contents
    assert "url=docs/index.html" in page(site, "index")


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = re.sub(r"<a [^>]*>", "", file.read_text(encoding="utf-8"))
        assert not LOADED.search(text), file.name


def test_equations_are_drawn_by_the_browser(site: Path) -> None:
    text = page(site, "docs/how-it-works")
    blocks = re.findall(r'<div class="math">\s*<math.*?</math>', text, re.DOTALL)
    at_the_end = r"<mn>(\d)</mn>\s*<mo[^>]*>\)</mo>\s*</math>"
    assert [re.findall(at_the_end, block) for block in blocks] == [[str(n)] for n in range(1, 9)]
    assert "$$" not in text
    assert "mathjax" not in text.lower()


def test_reference_has_every_public_name(site: Path) -> None:
    text = page(site, "docs/reference")
    for name in set(dmsr_cli.__all__) - {"__version__"}:
        home = "dmsr_cli.errors" if name == "DmsrError" else "dmsr_cli"
        assert f'id="{home}.{name}"' in text, name
    assert "Args:" not in text  # sections of docstrings are read, not shown as they are
    assert "TypeAliasForwardRef" not in text


def test_search_knows_the_words(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for word in ("deblur", "halfton", "provenance"):
        assert word in index
