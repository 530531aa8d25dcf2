"""Where a resource stands: its parent, its scope, and what it waits for."""

from collections.abc import Iterator

from tools.bicep_check.program import Template
from tools.bicep_check.tree import Array, Declaration, Index, Name, Node, Object, Spread, Text
from tools.bicep_check.types import Record, Type, now

Fault = tuple[Node, str]


def named(kind: Type, body: Object) -> Type:
    """The kind of a body; a child named `parent/child`, without a parent, is not held to the rule of its own name."""
    record = now(kind)
    name = body.get("name")
    if isinstance(record, Record) and "/" in (getattr(name, "literal", None) or ""):
        return Record({**record.fields, "name": record.fields["scope"]}, record.rest, record.name)
    return kind


def misplaced(template: Template, declared: Declaration, body: Object) -> Iterator[Fault]:
    """What is wrong with a resource's `parent`, `scope` and `dependsOn`."""
    for key in ("parent", "scope"):
        value = body.get(key)
        if value is not None and not _is_declared(template, value, {"resource"}, otherwise=True):
            yield value, f"{declared.name}.{key} is no resource (BCP036)"
    yield from undeployed(template, body)
    yield from _parent(template, declared, body)


def undeployed(template: Template, body: Object) -> Iterator[Fault]:
    """What `dependsOn` names that is neither resource nor module."""
    depends = body.get("dependsOn")
    for item in depends.items if isinstance(depends, Array) else ():
        if not isinstance(item, Spread) and not _is_declared(template, item, {"resource", "module"}, otherwise=False):
            yield item, "dependsOn names what is neither resource nor module (BCP034)"


def _parent(template: Template, declared: Declaration, body: Object) -> Iterator[Fault]:
    """A child's `parent` is of the type above its own; without one the child's name holds its parent's."""
    kind = template.resource_type(declared).partition("@")[0]
    parent = body.get("parent")
    above = template.symbols.get(getattr(parent, "name", ""))
    if above is not None and above.keyword == "resource":
        outer, wanted = template.resource_type(above).partition("@")[0], kind.rpartition("/")[0]
        if outer.lower() != wanted.lower():
            yield declared, f"{declared.name}: its parent is a {outer}, but a {wanted} is wanted (BCP036)"
    if kind.count("/") > 1 and parent is None and id(declared) not in template.parents:
        name = getattr(body.get("name"), "literal", "/")
        if name is not None and "/" not in name:
            yield declared, f"{declared.name} has neither a parent nor its parent's name (BCP169)"


def _is_declared(template: Template, node: Node, keywords: set[str], *, otherwise: bool) -> bool:
    """Whether a node is a symbol of these kinds; `otherwise` tells of calls: a function may give a scope."""
    while isinstance(node, Index):
        node = node.target
    if isinstance(node, Name):
        symbol = template.symbols.get(node.name)
        return symbol is None or symbol.keyword in keywords  # what is not declared is reported elsewhere
    return (otherwise and not isinstance(node, Text | Object | Array)) or getattr(node, "nested", False)
