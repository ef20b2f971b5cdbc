"""The documentation as the tests see it: pages, their code blocks and links."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

RUN = ("python", "sql", "console", "bash")
"""Languages whose blocks are run, unless a comment before the block says why not."""

_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*)(?P<rest>.*)")
_TITLE = re.compile(r'title="(?P<title>[^"]*)"')
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\S.*) -->")
_LINK = re.compile(r"(?<!!)\[(?:[^\]]|\\\])*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"#{1,6} (?P<text>.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    """The first word after the fence."""
    title: str
    """What `title="…"` after it says: a file's name, or `output` for what the block before it puts out."""
    text: str
    line: int
    """The number of the line that the text begins in."""
    reason: str | None
    """Why it is not run, as the comment before it says."""


@dataclass(frozen=True)
class Step:
    """Something that the runner does."""

    kind: str
    """`python`, `sql`, `console`, `bash`, or `file` to write the text to a file."""
    text: str
    line: int
    name: str = ""
    """The file's name."""
    output: str | None = None
    """What the page shows as the output."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    number = 0
    before = ""
    while number < len(lines):
        opening = _FENCE.fullmatch(lines[number])
        if opening is None:
            before = lines[number] or before
            number += 1
            continue
        end = next(
            (n for n in range(number + 1, len(lines)) if lines[n].strip() == opening["fence"]),
            None,
        )
        assert end is not None, f"the block that line {number + 1} begins has no end"
        title = _TITLE.search(opening["rest"])
        reason = _NOT_RUN.fullmatch(before.strip())
        yield Block(
            language=opening["language"],
            title=title["title"] if title else "",
            text=textwrap.dedent("\n".join(lines[number + 1 : end])) + "\n",
            line=number + 2,
            reason=reason["reason"] if reason else None,
        )
        before = ""
        number = end + 1


def steps(text: str) -> list[Step]:
    """Return what is to be done to see whether a page's blocks do what it says."""
    found: list[Step] = []
    follows = False  # whether the block before this one was run
    for block in blocks(text):
        if block.language == "text" and block.title == "output":
            assert follows, f"line {block.line}: the output of a block that is not run"
            last = found.pop()
            found.append(Step(last.kind, last.text, last.line, last.name, block.text))
        follows = block.reason is None and block.language in RUN and not block.title
        if follows:
            found.append(Step(block.language, block.text, block.line))
        elif block.reason is None and block.title not in ("", "output"):
            found.append(Step("file", block.text, block.line, block.title))
    return found


def links(text: str) -> list[str]:
    """Return the targets of a page's links, those in code left out."""
    return [match["target"] for match in _LINK.finditer(_without_code(text))]


def anchors(text: str) -> set[str]:
    """Return what a link can name after its `#`, as Python-Markdown makes it of the headings."""
    headings = [
        match["text"] for line in _without_code(text, inline=False).splitlines() if (match := _HEADING.match(line))
    ]
    return {_slug(heading) for heading in headings}


def _slug(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def _without_code(text: str, *, inline: bool = True) -> str:
    text = re.sub(r"^( *)(`{3,}).*?^\1\2$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text) if inline else text
