"""The two readings of `.funcignore`: `make package` reads it as git does, Core Tools in their own way."""

import re
from collections.abc import Callable
from pathlib import Path

from pathspec import GitIgnoreSpec

ROOT = Path(__file__).parents[2]
RULES = (ROOT / ".funcignore").read_text(encoding="utf-8")

type Reading = Callable[[str], bool]  # True if a path from the root is left out of the package


def as_git(rules: str) -> Reading:
    """Return the reading of `make package`, by pathspec."""
    spec = GitIgnoreSpec.from_lines(rules.splitlines())

    def left_out(path: str) -> bool:
        parents = ["/".join(path.split("/")[:depth]) + "/" for depth in range(1, path.count("/") + 1)]
        return any(spec.match_file(name) for name in [*parents, path])

    return left_out


def as_core_tools(rules: str, *, whole_words: bool = True) -> Reading:
    """Return the reading of `func` (Azure/azure-functions-core-tools, GitIgnoreParser.cs).

    All patterns form one expression, which must match the beginning of the path. Versions since the sources moved to
    src/Cli/func need the end of a word after the match (`whole_words`); earlier versions do not.
    """
    lines = [line.strip() for line in rules.split("\n")]
    patterns = [line.removeprefix("/") for line in lines if line and not line.startswith(("#", "!"))]
    assert not any(line.startswith("!") for line in lines), "this reading does not support exceptions"
    end = r"\b" if whole_words else ""
    expression = re.compile(f"^({'|'.join(_expression(pattern) for pattern in patterns)}){end}", re.ASCII)
    return lambda path: expression.search(path) is not None


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*)", pattern)
    return "".join({"**": ".+", "*": "[^/]+"}.get(part, re.escape(part)) for part in parts)
