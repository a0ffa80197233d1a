"""The documentation as a site: `make docs` builds it into build/site.

The source folder is the repository's root, so that a link between two Markdown files is the same on
the site and where the repository is looked at; `PAGES` says what belongs to the site.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from dmsr_cli import __version__  # noqa: E402 # the line above says where it is

PAGES = {
    "Start": ["docs/quick-start", "docs/installation", "docs/photographs", "docs/coming-from"],
    "Use": [
        "docs/cli",
        "docs/python",
        "docs/reference",
        "docs/formats",
        "docs/reliability",
        "docs/estimation",
        "docs/export",
    ],
    "Models": ["docs/models", "docs/training", "docs/experiments", "docs/performance"],
    "Under the hood": ["docs/how-it-works", "CONTRIBUTING", "SECURITY", "CHANGELOG"],
}
"""The captions of the table of contents with their pages; one that is not there is left out."""

project = "dmsr"
author = "The dmsr authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "*.md"]
# Else Sphinx walks through all folders before it looks at these patterns.
_walked = {"docs", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
exclude_patterns = [entry.name for entry in ROOT.iterdir() if entry.name not in _walked]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_update_mathjax = False

default_role = "code"  # docstrings have single backticks
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {
    name: name for name in ("DTypeLike", "Note", "Picture", "Pixels", "Samples")
}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
# What has no page here: other packages, and types that are the package's own affair.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(collections|numpy|pathlib|torch|typing|huggingface_hub)\..*|Path|TypeAliasForwardRef",
    ),
    (r"py:.*", r"DTypeLike|Note|Picture|Pixels|Samples|dmsr_cli\.model\.dmsr\.DMSR"),
]

html_theme = "furo"
html_title = f"dmsr {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_additional_pages = {"index": "redirect.html"}
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
templates_path = ["_templates"]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.connect("source-read", _add_contents)
    app.connect("env-get-outdated", _read_contents_anew)
    app.connect("autodoc-process-docstring", _read_sections)
    app.connect("autodoc-process-signature", _name_types)


def _add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Give the first page its table of contents, which plain Markdown has no words for."""
    if name != root_doc:
        return
    for caption, pages in PAGES.items():
        entries = [f"/{page}" for page in pages if (ROOT / f"{page}.md").exists()]
        options = [f":caption: {caption}", ":titlesonly:"]
        source[0] += "\n".join(["", "```{toctree}", *options, "", *entries, "```", ""])


def _read_contents_anew(app: Sphinx, *of_the_build: Any) -> list[str]:
    """The contents depend on which pages are there, of which Sphinx knows nothing."""
    return [root_doc]


def _read_sections(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Read Args, Returns and Raises; the extension would take a colon in a line for a type, too."""
    if what in ("function", "method"):
        lines[:] = GoogleDocstring(lines, Config(napoleon_use_rtype=False), what=what).lines()


def _name_types(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, *signature: str | None
) -> tuple[str | None, ...]:
    """Show a type by its name alone, where Sphinx shows how it keeps it."""
    kept = r"TypeAliasForwardRef\('(\w+)'\)"
    return tuple(text and re.sub(kept, r"\1", text) for text in signature)


def _visit_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _visit_block(translator: Any, node: nodes.math_block) -> None:
    """MathML, which browsers draw by themselves: MathJax would be loaded from elsewhere."""
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>\n')
    raise nodes.SkipNode
