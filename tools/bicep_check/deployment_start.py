"""Values that must be known at the start of a deployment (BCP120): names, scopes, parents, conditions, loop sources."""

from collections.abc import Iterator

from tools.bicep_check.declared_types import KNOWN_AT_START
from tools.bicep_check.program import Template
from tools.bicep_check.tree import ArrayAccess, Condition, Declaration, Fault, Loop, Name, Node, PropertyAccess, walk


def late_values(template: Template, declared: Declaration) -> Iterator[Fault]:
    """Yield the values of a resource or module that are known only after something is deployed."""
    value = declared.value
    while isinstance(value, Loop | Condition):
        if isinstance(value, Loop):
            yield from _late(template, value.source, "a loop's source", set())
        else:
            yield from _late(template, value.condition, "a condition", set())
        value = value.body
    if declared.body is None:
        return
    for found in declared.body.properties:
        if found.key.literal in ("name", "scope", "parent"):
            yield from _late(template, found.value, f"its {found.key.literal}", set())


def _late(template: Template, node: Node, subject: str, seen: set[str]) -> Iterator[Fault]:
    for inner in walk(node):
        if isinstance(inner, PropertyAccess) and not inner.nested and (symbol := _deployed(template, inner.target)):
            if inner.name not in KNOWN_AT_START or symbol.keyword == "module":
                yield node, f"{subject} must be known at the start, but uses {symbol.name}.{inner.name} (BCP120)"
        elif isinstance(inner, Name) and inner.name not in seen:
            variable = template.symbols.get(inner.name)
            if variable is not None and variable.keyword == "var" and variable.value is not None:
                seen.add(inner.name)
                yield from ((node, message) for _, message in _late(template, variable.value, subject, seen))


def _deployed(template: Template, node: Node) -> Declaration | None:
    while isinstance(node, ArrayAccess):
        node = node.target
    symbol = template.symbols.get(node.name) if isinstance(node, Name) else None
    return symbol if symbol is not None and symbol.keyword in ("resource", "module") else None
