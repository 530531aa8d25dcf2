"""Readers of the documents: headings, tables, code blocks, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.docs_tables import ROOT

_FENCE = re.compile(r"^```(?P<language>\S*)[ ]?(?P<rest>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: ```` ```json CallView ```` has the language `json` and the kind `CallView`."""

    path: Path
    language: str
    kind: str
    body: str

    @property
    def id(self) -> str:
        """The document and the first line, as the id of a test case."""
        first = self.body.strip().splitlines()[0][:40] if self.body.strip() else "empty"
        return f"{self.path.relative_to(ROOT)}: {first}"


def documents() -> list[Path]:
    """Return the Markdown files that people read."""
    folders = ("docs", "simulator", "local", "tools", "examples", ".github")
    return sorted([*ROOT.glob("*.md"), *(path for name in folders for path in (ROOT / name).rglob("*.md"))])


def is_ours(path: Path) -> bool:
    """Return True if a document is about Call Keeper itself. `simulator/` and `local/` have another API."""
    return path.parent == ROOT or path.is_relative_to(ROOT / "docs")


def read(name: str) -> str:
    """Return the text of a document by its path in the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(path: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a document."""
    for found in _FENCE.finditer(path.read_text(encoding="utf-8")):
        yield Block(path, found["language"], found["rest"].strip(), found["body"])


def prose(text: str) -> str:
    """Return a document without its fenced blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """Return the targets of a document's links."""
    return [found["target"] for found in _LINK.finditer(prose(text))]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    titles = (found["title"] for found in _HEADING.finditer(prose(text)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section(text: str, title: str) -> str:
    """Return the prose under a heading, up to the next heading. A comment in a shell block is no heading."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,6}} |\Z)", prose(text), re.MULTILINE | re.DOTALL)
    assert found, f"there is no heading {title!r}"
    return found[2]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows, without heads and rules. A `\\|` is no border."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = {index for index, row in enumerate(cells) if all(re.fullmatch(r":?-+:?", cell) for cell in row)}
    return [row for index, row in enumerate(cells) if index not in rules and index + 1 not in rules]


def code(cell: str) -> list[str]:
    """Return the texts in backticks."""
    return re.findall(r"`([^`]+)`", cell)
