"""How the tools read `.funcignore`: `make package` as git does, Core Tools in a way of their own."""

import re
from collections.abc import Callable
from pathlib import Path

from pathspec import GitIgnoreSpec

ROOT = Path(__file__).parents[2]
RULES = (ROOT / ".funcignore").read_text(encoding="utf-8")

type Reading = Callable[[str], bool]  # whether a path from the root is left out of the package


def as_git(rules: str) -> Reading:
    """Read as `make package` does, by pathspec."""
    spec = GitIgnoreSpec.from_lines(rules.splitlines())

    def left_out(path: str) -> bool:
        parents = ["/".join(path.split("/")[:depth]) + "/" for depth in range(1, path.count("/") + 1)]
        return any(spec.match_file(name) for name in [*parents, path])

    return left_out


def as_core_tools(rules: str, *, whole_words: bool = True) -> Reading:
    """Read as `func` does (Azure/azure-functions-core-tools, GitIgnoreParser.cs).

    All patterns are one expression, held to the beginning of the path. Versions since the sources moved to
    src/Cli/func want the end of a word behind the match (`whole_words`), earlier ones take any beginning.
    """
    lines = [line.strip() for line in rules.split("\n")]
    patterns = [line.removeprefix("/") for line in lines if line and not line.startswith(("#", "!"))]
    assert not any(line.startswith("!") for line in lines), "this reading knows no exceptions"
    end = r"\b" if whole_words else ""
    expression = re.compile(f"^({'|'.join(_expression(pattern) for pattern in patterns)}){end}", re.ASCII)
    return lambda path: expression.search(path) is not None


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*)", pattern)
    return "".join({"**": ".+", "*": "[^/]+"}.get(part, re.escape(part)) for part in parts)
