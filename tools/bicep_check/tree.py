"""What a Bicep file says: expressions, types and declarations, each with its line."""

from collections.abc import Iterator
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Node:
    """Anything that stands in a file."""

    line: int


@dataclass(frozen=True, slots=True)
class Text(Node):
    """A string: its pieces are strings and the expressions of its holes."""

    pieces: tuple["str | Node", ...]

    @property
    def literal(self) -> str | None:
        """The text, unless it has holes."""
        return None if any(isinstance(piece, Node) for piece in self.pieces) else "".join(map(str, self.pieces))


@dataclass(frozen=True, slots=True)
class Number(Node):
    """An integer."""

    value: int


@dataclass(frozen=True, slots=True)
class Truth(Node):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, slots=True)
class Null(Node):
    """`null`."""


@dataclass(frozen=True, slots=True)
class Name(Node):
    """The name of a symbol, or of a namespace."""

    name: str


@dataclass(frozen=True, slots=True)
class Member(Node):
    """`target.name`, safe with `.?`; a nested resource `target::name`."""

    target: Node
    name: str
    safe: bool
    nested: bool = False


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`target[index]`, safe with `[?`."""

    target: Node
    index: Node
    safe: bool


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`function(…)`, or of a namespace: `az.function(…)`, `sys.function(…)`; or a method of `target`."""

    function: str
    arguments: tuple[Node, ...]
    target: Node | None = None


@dataclass(frozen=True, slots=True)
class Property(Node):
    """One of an object's: its key is a name or a string, perhaps with holes."""

    key: Text
    value: Node
    quoted: bool
    decorators: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread(Node):
    """`...value` in an object or array."""

    value: Node


@dataclass(frozen=True, slots=True)
class Object(Node):
    """An object: its properties, what it spreads, and (in a resource) the resources nested in it."""

    properties: tuple[Property, ...]
    spreads: tuple[Spread, ...] = ()
    nested: tuple["Declaration", ...] = ()

    def get(self, key: str) -> Node | None:
        """The value of a property that is written out."""
        return next((found.value for found in self.properties if found.key.literal == key), None)


@dataclass(frozen=True, slots=True)
class Array(Node):
    """`[items]`."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Ternary(Node):
    """`condition ? yes : no`."""

    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`left operator right`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-x`, `!x`, or the postfix `x!`, whose operator is written `null!`."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Loop(Node):
    """`[for item in source: body]`, `[for (item, index) in …]`."""

    item: str
    index: str | None
    source: Node
    body: Node


@dataclass(frozen=True, slots=True)
class Condition(Node):
    """The `if (…)` before the body of a resource or module."""

    condition: Node
    body: Node


@dataclass(frozen=True, slots=True)
class Lambda(Node):
    """`(parameters) => body`."""

    parameters: tuple[str, ...]
    body: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    """The type `item[]`."""

    item: Node


@dataclass(frozen=True, slots=True)
class Optional(Node):
    """The type `type?`."""

    type: Node


@dataclass(frozen=True, slots=True)
class OneOf(Node):
    """The type `'a' | 'b'`."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Declaration(Node):
    """A statement. `keyword` says which; `path` is a resource's type, or a module's or using's file."""

    keyword: str
    name: str
    decorators: tuple[Call, ...] = ()
    type: Node | None = None
    value: Node | None = None
    path: str = ""
    existing: bool = False

    def decorator(self, name: str) -> Call | None:
        """The decorator of that name, if it is there."""
        return next((found for found in self.decorators if found.function == name), None)

    @property
    def body(self) -> Object | None:
        """The object of a resource or module, inside its loop and its condition."""
        return body_of(self.value)


def body_of(value: Node | None) -> Object | None:
    """The object inside loops and conditions."""
    while isinstance(value, Loop | Condition):
        value = value.body
    return value if isinstance(value, Object) else None


def walk(node: Node | None) -> Iterator[Node]:
    """A node and all below it."""
    if node is None:
        return
    yield node
    for field in fields(node):
        value = getattr(node, field.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Node):
                yield from walk(child)
