"""What the documents say that can be tried: their commands and their blocks of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("C*.md"))]
PROGRAMS = ("dmsr", "python", "torchrun", "make", "pip", "bash", "cat", "find", "cd")
COMMAND = re.compile(rf"^(?:[A-Z_]+=\S+ )*(?:{'|'.join(PROGRAMS)})\s")
SHELL = {"", "sh"}
"""Languages of the blocks that hold commands; the empty one is that of indented blocks, too."""


@dataclass(frozen=True)
class Block:
    """Lines of code in a page, without their indentation."""

    page: Path
    language: str
    """Of a fenced block as it is written; of an indented one, empty."""
    text: str


def blocks(page: Path) -> list[Block]:
    """All fenced and indented blocks, in order."""
    found = []
    pattern = r"^```(\S*)\n(.*?)^```$|((?:^ {4}[^\n]*\n|^\n)+)"
    for match in re.finditer(pattern, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        indented = match[3]
        if indented is None:
            found.append(Block(page, match[1], match[2]))
        elif indented.strip():
            found.append(Block(page, "", re.sub(r"^ {4}", "", indented, flags=re.MULTILINE)))
    return found


def commands(page: Path) -> list[str]:
    """Command lines of the blocks; lines that end in a backslash are joined with the next."""
    found = []
    for block in blocks(page):
        if block.language in SHELL:
            text = block.text.replace("\\\n", " ")
            found += [line.strip() for line in text.splitlines() if COMMAND.match(line.strip())]
    return found


def inline_commands(page: Path) -> list[str]:
    """Commands in running text, which may have an ellipsis or a name in place of an argument."""
    fenced = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    text = fenced.sub("", page.read_text(encoding="utf-8"))
    quoted = re.findall(r"(?<!`)`([^`]+)`(?!`)", text)
    joined = [" ".join(quote.split()) for quote in quoted]
    return [quote for quote in joined if COMMAND.match(quote)]
