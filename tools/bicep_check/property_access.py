"""The types of `object.name` and `array[index]`, and whether a `.?` earlier in the chain guards against null."""

from collections.abc import Callable

from tools.bicep_check.tree import ArrayAccess, Node, PropertyAccess, String
from tools.bicep_check.value_types import (
    ANY,
    ArrayType,
    DiscriminatedType,
    ObjectType,
    Type,
    UnionType,
    describe,
    resolved,
    union,
)

Report = Callable[[Node, str], None]


def property_type(node: PropertyAccess, target: Type, report: Report) -> Type:
    """Return the type of `target.name`, and report a property that does not exist."""
    match target:
        case ObjectType(fields=fields) if node.name in fields:
            return fields[node.name].type
        case ObjectType(additional=None, name=name):
            report(node, f"{name} has no property {node.name!r} (BCP053)")
        case ObjectType(additional=additional) if additional is not None:
            return additional
        case UnionType(options=options) if all(isinstance(resolved(option), ObjectType) for option in options):
            return union([property_type(node, resolved(option), report) for option in options])
        case _ if target != ANY and not isinstance(target, DiscriminatedType | UnionType):
            report(node, f"{describe(target)} has no property {node.name!r}")
    return ANY


def item_type(node: ArrayAccess, target: Type, report: Report) -> Type:
    """Return the type of `target[index]`: an array's item, or an object's property by its name."""
    name = node.index.literal if isinstance(node.index, String) else None
    match target:
        case ArrayType(item=item):
            return item
        case ObjectType() if name is not None:
            return property_type(PropertyAccess(node.line, node.target, name, safe=node.safe), target, report)
        case _:
            return ANY


def in_safe_chain(node: Node) -> bool:
    """Return True if an earlier `.?` or `[?` makes the whole chain null instead of failing."""
    while isinstance(node, PropertyAccess | ArrayAccess):
        if node.safe:
            return True
        node = node.target
    return False
