"""A folder of Bicep files, each parsed, with its symbols. Files are texts by path, so that a test can change one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from tools.bicep_check.parser import parse
from tools.bicep_check.tokens import Directive
from tools.bicep_check.tree import Declaration, Node, String, walk

SYMBOLS = frozenset({"param", "var", "resource", "module", "type"})


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One fault: where it is, and what is wrong."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class Template:
    """One parsed file: its declarations, by keyword and by name."""

    def __init__(self, path: str, declarations: tuple[Declaration, ...], directives: tuple[Directive, ...]) -> None:
        self.path = path
        self.declarations = declarations
        self.directives = directives
        self.parents: dict[int, Declaration] = {}  # by id() of a nested resource: the resource around it
        self.resources: tuple[Declaration, ...] = tuple(self._with_nested(self.of("resource")))
        nested = tuple(found for found in self.resources if id(found) in self.parents)
        self.declared = (*declarations, *nested)
        self.symbols = {found.name: found for found in self.declared if found.keyword in SYMBOLS}

    def of(self, keyword: str) -> tuple[Declaration, ...]:
        """Return the declarations with this keyword, without nested resources."""
        return tuple(found for found in self.declarations if found.keyword == keyword)

    @property
    def scope(self) -> str:
        """The scope that the file is deployed to: `resourceGroup` unless it sets targetScope."""
        for found in self.of("targetScope"):
            if isinstance(found.value, String):
                return found.value.literal or "?"
        return "resourceGroup"

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of the file."""
        return tuple(node for found in self.declarations for node in walk(found))

    def resource_type(self, declared: Declaration) -> str:
        """Return `Provider/type@version`. The type of a nested resource begins with its parent's type."""
        parent = self.parents.get(id(declared))
        if parent is None or "/" in declared.path.partition("@")[0]:
            return declared.path
        outer, _, version = self.resource_type(parent).partition("@")
        inner, _, own = declared.path.partition("@")
        return f"{outer}/{inner}@{own or version}"

    def _with_nested(self, resources: tuple[Declaration, ...]) -> list[Declaration]:
        found: list[Declaration] = []
        for outer in resources:
            inner = outer.body.nested if outer.body else ()
            self.parents |= {id(declared): outer for declared in inner}
            found += [outer, *self._with_nested(inner)]
        return found


class Program:
    """All files of a folder: texts by their path in the folder, with `/` as separator."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self._parsed: dict[str, Template] = {}

    @classmethod
    def of_folder(cls, folder: Path) -> "Program":
        """Read the Bicep files of a folder, and the text files that they may load."""
        suffixes = {".bicep", ".bicepparam", ".json", ".kql", ".md"}
        files = (path for path in sorted(folder.rglob("*")) if path.suffix in suffixes)
        return cls({path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files})

    def changed(self, path: str, text: str) -> "Program":
        """Return the program with another text for one file. The other files are not parsed again."""
        other = Program({**self.texts, path: text})
        other._parsed = {name: template for name, template in self._parsed.items() if name != path}
        return other

    def template(self, path: str) -> Template:
        """Return one file, parsed.

        Raises
        ------
        BicepSyntaxError
            The file has a syntax error.
        """
        if path not in self._parsed:
            source = parse(self.texts[path])
            self._parsed[path] = Template(path, source.declarations, source.directives)
        return self._parsed[path]

    def names(self, suffix: str) -> list[str]:
        """Return the paths that end with the suffix."""
        return [path for path in self.texts if path.endswith(suffix)]

    def resolve(self, from_path: str, relative: str) -> str:
        """Return the path of a file that another file names relative to itself. It need not exist."""
        parts: list[str] = []
        for part in (PurePosixPath(from_path).parent / relative).parts:
            if part == ".." and parts and parts[-1] != "..":
                parts.pop()
            else:
                parts.append(part)
        return "/".join(parts)
