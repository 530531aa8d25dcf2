"""The types of calls of Bicep's functions, and what is wrong with a call."""

from collections.abc import Callable, Mapping
from typing import Protocol, Self

from tools.bicep_check.functions import FUNCTIONS, SECRET_FUNCTIONS
from tools.bicep_check.program import Program, Template
from tools.bicep_check.tree import Call, Integer, Lambda, Name, Node
from tools.bicep_check.value_types import (
    ANY,
    ArrayType,
    Field,
    ObjectType,
    StringType,
    Type,
    UnionType,
    concatenated,
    resolved,
    union,
    widest,
    without_null,
)


class Scope(Protocol):
    """The part of `inference.Scope` that calls need. `inference` imports this module, so it cannot be imported here."""

    @property
    def program(self) -> Program:
        """All files."""
        ...

    @property
    def template(self) -> Template:
        """The file that holds the call."""
        ...

    def type_of(self, node: Node) -> Type:
        """Return the type of an expression, and report its faults."""
        ...

    def report(self, node: Node, text: str) -> None:
        """Report a fault at a node."""
        ...

    def inside(self, **variables: Type) -> Self:
        """Return the scope of a lambda's body, in which its parameters have these types."""
        ...


def call_type(scope: Scope, node: Call) -> Type:
    """Return the type of a call's result; report unknown functions, wrong numbers of arguments and reads of secrets."""
    if node.function in SECRET_FUNCTIONS:
        scope.report(node, f"{node.function}() reads a secret: use the managed identity instead")
        return ANY
    if node.target is not None and not (isinstance(node.target, Name) and node.target.name in ("az", "sys")):
        scope.type_of(node.target)
        scope.report(node, f"there is no method {node.function!r}")
        return ANY
    function = FUNCTIONS.get(node.function)
    if function is None:
        scope.report(node, f"there is no function {node.function!r} (BCP057)")
        return ANY
    least, most = function.min_arguments, function.max_arguments
    if not least <= len(node.arguments) <= most:
        count = f"{least} to {most}" if least != most else str(least)
        scope.report(node, f"{node.function}() takes {count} arguments, not {len(node.arguments)} (BCP071)")
        return function.result
    _check_context(scope, node)
    arguments = _argument_types(scope, node)
    special = _SPECIAL.get(node.function)
    return special(node, arguments) if special else function.result


def _check_context(scope: Scope, node: Call) -> None:
    """Report a call that its place or its file does not allow."""
    if node.function == "resourceGroup" and not node.arguments and scope.template.scope == "subscription":
        scope.report(node, "resourceGroup() cannot be used in a template that is deployed to a subscription")
    if node.function in ("utcNow", "newGuid"):
        scope.report(node, f"{node.function}() gives another value at each deployment")
    if node.function.startswith("load"):
        path = getattr(node.arguments[0], "literal", None)
        if path is None or scope.program.resolve(scope.template.path, path) not in scope.program.texts:
            scope.report(node, f"{node.function}() reads a file that does not exist: {path} (BCP091)")


def _argument_types(scope: Scope, node: Call) -> list[Type]:
    first = scope.type_of(node.arguments[0]) if node.arguments else ANY
    return [first, *(_argument_type(scope, argument, first) for argument in node.arguments[1:])]


def _argument_type(scope: Scope, argument: Node, first: Type) -> Type:
    """Return an argument's type; a lambda's parameter has the type of the items of the first argument."""
    if not isinstance(argument, Lambda):
        return scope.type_of(argument)
    source = resolved(first)
    item: Type = source.item if isinstance(source, ArrayType) and len(argument.parameters) == 1 else ANY
    return scope.inside(**dict.fromkeys(argument.parameters, item)).type_of(argument.body)


def _string(type_: Type) -> StringType:
    match resolved(type_):
        case StringType() as string:
            return string
        case UnionType(options=options):
            return widest(option for option in options if isinstance(option, StringType))
        case _:
            return StringType()


def _take(node: Call, arguments: list[Type]) -> Type:
    if not isinstance(resolved(arguments[0]), StringType | UnionType):
        return resolved(arguments[0])
    string, count = _string(arguments[0]), node.arguments[1]
    if not isinstance(count, Integer):
        return StringType(max_length=string.max_length)
    max_length = count.value if string.max_length is None else min(count.value, string.max_length)
    return StringType(min_length=min(string.min_length, count.value), max_length=max_length, computed=True)


def _change_case(node: Call, arguments: list[Type]) -> Type:
    string = _string(arguments[0])
    change = str.lower if node.function == "toLower" else str.upper
    return StringType(frozenset(map(change, string.allowed)), string.min_length, string.max_length)


def _replace(_node: Call, arguments: list[Type]) -> Type:
    string, old, new = map(_string, arguments)
    cannot_grow = new.max_length is not None and new.max_length <= old.min_length
    return StringType(max_length=string.max_length if cannot_grow else None)


def _concat(_node: Call, arguments: list[Type]) -> Type:
    if all(isinstance(resolved(type_), ArrayType) for type_ in arguments):
        return ArrayType(union(type_.item for type_ in map(resolved, arguments) if isinstance(type_, ArrayType)))
    return concatenated(map(_string, arguments))


def _union(_node: Call, arguments: list[Type]) -> Type:
    types = [resolved(type_) for type_ in arguments]
    if all(isinstance(type_, ArrayType) for type_ in types):
        return ArrayType(union(type_.item for type_ in types if isinstance(type_, ArrayType)))
    options = [option for type_ in types for option in (type_.options if isinstance(type_, UnionType) else (type_,))]
    objects = [object_ for object_ in map(resolved, options) if isinstance(object_, ObjectType)]
    if len(objects) < len(options):
        return ANY
    fields = {name: field for object_ in objects for name, field in object_.fields.items()}
    closed = len(options) == len(arguments) and all(object_.additional is None for object_ in objects)
    return ObjectType(fields, None if closed else ANY)


def _items(_node: Call, arguments: list[Type]) -> Type:
    value = Field(_value_type(resolved(arguments[0])))
    return ArrayType(ObjectType({"key": Field(StringType()), "value": value}))


def _value_type(source: Type) -> Type:
    if not isinstance(source, ObjectType):
        return ANY
    if source.additional is None and source.fields:
        return union(field.type for field in source.fields.values())
    return ANY if source.fields else source.additional or ANY


def _element(_node: Call, arguments: list[Type]) -> Type:
    source = resolved(arguments[0])
    return source.item if isinstance(source, ArrayType) else ANY


_SPECIAL: Mapping[str, Callable[[Call, list[Type]], Type]] = {
    "take": _take,
    "toLower": _change_case,
    "toUpper": _change_case,
    "replace": _replace,
    "concat": _concat,
    "union": _union,
    "items": _items,
    "first": _element,
    "last": _element,
    "map": lambda _node, arguments: ArrayType(arguments[1]),
    "filter": lambda _node, arguments: resolved(arguments[0]),
    "coalesce": lambda _node, arguments: union((*map(without_null, arguments[:-1]), arguments[-1])),
}
