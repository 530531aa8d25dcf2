"""Checks of a resource's `parent`, `scope` and `dependsOn`."""

from collections.abc import Iterator

from tools.bicep_check.program import Template
from tools.bicep_check.tree import Array, ArrayAccess, Declaration, Fault, Name, Node, Object, Spread, String
from tools.bicep_check.value_types import ObjectType, Type, resolved


def without_name_rule(type_: Type, body: Object) -> Type:
    """Return the type of a body, without the rule of its name if the name is `parent/child`.

    The published rule holds for the child's own name only.
    """
    object_ = resolved(type_)
    name = body.get("name")
    if isinstance(object_, ObjectType) and "/" in (getattr(name, "literal", None) or ""):
        return ObjectType({**object_.fields, "name": object_.fields["scope"]}, object_.additional, object_.name)
    return type_


def check_placement(template: Template, declared: Declaration, body: Object) -> Iterator[Fault]:
    """Yield what is wrong with a resource's `parent`, `scope` and `dependsOn`."""
    for key in ("parent", "scope"):
        value = body.get(key)
        if value is not None and not _is_symbol(template, value, {"resource"}, or_call=True):
            yield value, f"{declared.name}.{key} is no resource (BCP036)"
    yield from check_depends_on(template, body)
    yield from _check_parent(template, declared, body)


def check_depends_on(template: Template, body: Object) -> Iterator[Fault]:
    """Yield the items of `dependsOn` that are neither resources nor modules."""
    depends = body.get("dependsOn")
    for item in depends.items if isinstance(depends, Array) else ():
        if not isinstance(item, Spread) and not _is_symbol(template, item, {"resource", "module"}, or_call=False):
            yield item, "dependsOn names something that is neither a resource nor a module (BCP034)"


def _check_parent(template: Template, declared: Declaration, body: Object) -> Iterator[Fault]:
    """Check that a child has a parent of the right type, or its parent's name within its own."""
    type_ = template.resource_type(declared).partition("@")[0]
    parent = body.get("parent")
    symbol = template.symbols.get(getattr(parent, "name", ""))
    if symbol is not None and symbol.keyword == "resource":
        actual, expected = template.resource_type(symbol).partition("@")[0], type_.rpartition("/")[0]
        if actual.lower() != expected.lower():
            yield declared, f"{declared.name}: its parent is a {actual}, but a {expected} is expected (BCP036)"
    if type_.count("/") > 1 and parent is None and id(declared) not in template.parents:
        name = getattr(body.get("name"), "literal", "/")
        if name is not None and "/" not in name:
            yield declared, f"{declared.name} has neither a parent nor its parent's name (BCP169)"


def _is_symbol(template: Template, node: Node, keywords: set[str], *, or_call: bool) -> bool:
    """Return True if a node is a symbol with one of these keywords, or a call if `or_call`: functions give scopes."""
    while isinstance(node, ArrayAccess):
        node = node.target
    if isinstance(node, Name):
        symbol = template.symbols.get(node.name)
        return symbol is None or symbol.keyword in keywords  # an undeclared name is reported elsewhere
    return (or_call and not isinstance(node, String | Object | Array)) or getattr(node, "nested", False)
