"""The syntax tree of a Bicep file: expressions, type expressions and declarations, each with its line."""

from collections.abc import Iterator
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the syntax tree; `line` counts from 1."""

    line: int


type Fault = tuple[Node, str]  # where it is, and what is wrong


@dataclass(frozen=True, slots=True)
class String(Node):
    """A string: its pieces are fixed texts and interpolated expressions."""

    pieces: tuple["str | Node", ...]

    @property
    def literal(self) -> str | None:
        """The text, or None if the string is interpolated."""
        return None if any(isinstance(piece, Node) for piece in self.pieces) else "".join(map(str, self.pieces))


@dataclass(frozen=True, slots=True)
class Integer(Node):
    """An integer."""

    value: int


@dataclass(frozen=True, slots=True)
class Boolean(Node):
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
class PropertyAccess(Node):
    """`target.name`; `safe` if written `.?`, `nested` if written `target::name`."""

    target: Node
    name: str
    safe: bool
    nested: bool = False


@dataclass(frozen=True, slots=True)
class ArrayAccess(Node):
    """`target[index]`; `safe` if written `[?`."""

    target: Node
    index: Node
    safe: bool


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`function(…)`. In `az.function(…)` the target is the namespace, and a method has its object as target."""

    function: str
    arguments: tuple[Node, ...]
    target: Node | None = None


@dataclass(frozen=True, slots=True)
class Property(Node):
    """A property of an object. Its key is a name or a string, which may be interpolated."""

    key: String
    value: Node
    quoted: bool
    decorators: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread(Node):
    """`...value` in an object or array."""

    value: Node


@dataclass(frozen=True, slots=True)
class Object(Node):
    """An object: its properties, its spreads and, in a resource, the nested resources."""

    properties: tuple[Property, ...]
    spreads: tuple[Spread, ...] = ()
    nested: tuple["Declaration", ...] = ()

    def get(self, key: str) -> Node | None:
        """Return the value of a property, or None if the object does not write it out."""
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
class ArrayOf(Node):
    """The type `item[]`."""

    item: Node


@dataclass(frozen=True, slots=True)
class Nullable(Node):
    """The type `type?`."""

    type: Node


@dataclass(frozen=True, slots=True)
class Union(Node):
    """The type `'a' | 'b'`."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Declaration(Node):
    """A statement that begins with `keyword`. `path` is the type of a resource, or the file of a module or `using`."""

    keyword: str
    name: str
    decorators: tuple[Call, ...] = ()
    type: Node | None = None
    value: Node | None = None
    path: str = ""
    existing: bool = False

    def decorator(self, name: str) -> Call | None:
        """Return the decorator of that name, or None."""
        return next((found for found in self.decorators if found.function == name), None)

    @property
    def body(self) -> Object | None:
        """The object of a resource or module, inside its loop and condition."""
        return body_of(self.value)


def body_of(value: Node | None) -> Object | None:
    """Return the object inside loops and conditions, or None if there is none."""
    while isinstance(value, Loop | Condition):
        value = value.body
    return value if isinstance(value, Object) else None


def walk(node: Node | None) -> Iterator[Node]:
    """Yield a node and all nodes below it."""
    if node is None:
        return
    yield node
    for field in fields(node):
        value = getattr(node, field.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Node):
                yield from walk(child)
