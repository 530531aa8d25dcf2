"""What must be known before a deployment starts (BCP120): names, scopes, parents, conditions, sources of loops."""

from collections.abc import Iterator
from dataclasses import dataclass

from tools.bicep_check.program import Template
from tools.bicep_check.tree import Condition, Declaration, Index, Loop, Member, Name, Node, walk

_KNOWN = frozenset({"id", "name", "type", "apiVersion"})


@dataclass(frozen=True, slots=True)
class Late:
    """A value that is there too late."""

    node: Node
    message: str


def late_values(template: Template, declared: Declaration) -> Iterator[Late]:
    """The values of a resource or module that only its deployment, or another's, would tell."""
    value = declared.value
    while isinstance(value, Loop | Condition):
        early = value.source if isinstance(value, Loop) else value.condition
        yield from _late(template, early, "a loop's source" if isinstance(value, Loop) else "a condition", set())
        value = value.body
    if declared.body is None:
        return
    for found in declared.body.properties:
        if found.key.literal in ("name", "scope", "parent"):
            yield from _late(template, found.value, f"its {found.key.literal}", set())


def _late(template: Template, node: Node, what: str, seen: set[str]) -> Iterator[Late]:
    for inner in walk(node):
        if isinstance(inner, Member) and not inner.nested and (symbol := _deployed(template, inner.target)):
            if inner.name not in _KNOWN or symbol.keyword == "module":
                yield Late(node, f"{what} must be known at the start, but uses {symbol.name}.{inner.name}")
        elif isinstance(inner, Name) and inner.name not in seen:
            variable = template.symbols.get(inner.name)
            if variable is not None and variable.keyword == "var" and variable.value is not None:
                seen.add(inner.name)
                yield from (Late(node, late.message) for late in _late(template, variable.value, what, seen))


def _deployed(template: Template, node: Node) -> Declaration | None:
    while isinstance(node, Index):
        node = node.target
    symbol = template.symbols.get(node.name) if isinstance(node, Name) else None
    return symbol if symbol is not None and symbol.keyword in ("resource", "module") else None
