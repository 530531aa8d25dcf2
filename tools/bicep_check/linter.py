"""Rules of Bicep's linter that this tool knows, under their own names; bicepconfig.json sets them to error."""

import re
from collections.abc import Callable, Iterator, Mapping

from tools.bicep_check.declared_types import module_params
from tools.bicep_check.program import Finding, Program, Template
from tools.bicep_check.tokens import BicepSyntaxError
from tools.bicep_check.tree import (
    Array,
    Call,
    Declaration,
    Fault,
    Name,
    Node,
    Object,
    Property,
    PropertyAccess,
    String,
    walk,
)

# Microsoft: "no-hardcoded-env-urls" page. These hosts belong to one cloud; environment() gives those of the cloud.
_CLOUD_HOSTS = re.compile(
    r"management\.(core\.windows|azure)\.|database\.windows\.net|login\.microsoftonline\.|graph\.windows\.net"
    r"|core\.(windows|usgovcloudapi)\.net|vault\.azure\.net|applicationinsights\.io|azuredatalakestore\.net"
)
_PLAIN_KEY = re.compile(r"^[A-Za-z_]\w*$")


def lint(program: Program) -> list[Finding]:
    """Return what the linter would report of all templates. Each message begins with the rule's name."""
    findings: list[Finding] = []
    for path in program.names(".bicep"):
        try:
            template = program.template(path)
            found = [fault for rule in _RULES.values() for fault in rule(program, template)]
        except BicepSyntaxError:  # reported by check_declarations()
            continue
        findings += (Finding(path, node.line, message) for node, message in found)
    return findings


def _simplify_interpolation(_program: Program, template: Template) -> Iterator[Fault]:
    keys = {id(node.key) for node in template.nodes if isinstance(node, Property)}
    for node in template.nodes:
        if isinstance(node, String) and id(node) not in keys and len(node.pieces) == 1 and node.literal is None:
            yield node, "simplify-interpolation: use the expression without quotes"


def _unquoted_names(_program: Program, template: Template) -> Iterator[Fault]:
    for node in template.nodes:
        if isinstance(node, Property) and node.quoted and _PLAIN_KEY.match(node.key.literal or ""):
            yield node, f"prefer-unquoted-property-names: {node.key.literal} needs no quotes"


def _location_outside_params(_program: Program, template: Template) -> Iterator[Fault]:
    for declared in template.declarations:
        for node in walk(declared):
            reads = isinstance(node, PropertyAccess) and node.name == "location" and isinstance(node.target, Call)
            if reads and declared.keyword != "param":
                yield node, "no-loc-expr-outside-params: take the location as a param"


def _hardcoded_location(_program: Program, template: Template) -> Iterator[Fault]:
    for declared in (*template.resources, *template.of("module")):
        body = declared.body
        params = body.get("params") if body and declared.keyword == "module" else body
        value = params.get("location") if isinstance(params, Object) else None
        if isinstance(value, String) and value.literal not in (None, "global"):
            yield value, f"no-hardcoded-location: take the region {value.literal!r} as a param"


def _hardcoded_hosts(_program: Program, template: Template) -> Iterator[Fault]:
    described = {id(inner) for node in template.nodes if isinstance(node, Call) for inner in _description(node)}
    for node in template.nodes:
        if isinstance(node, String) and id(node) not in described:
            for found in map(_CLOUD_HOSTS.search, (piece for piece in node.pieces if isinstance(piece, str))):
                if found:
                    yield node, f"no-hardcoded-env-urls: {found[0]} belongs to one cloud: use environment()"


def _description(node: Call) -> tuple[Node, ...]:
    return node.arguments if node.function == "description" else ()


def _concat(_program: Program, template: Template) -> Iterator[Fault]:
    for node in template.nodes:
        if isinstance(node, Call) and node.function == "concat" and any(isinstance(a, String) for a in node.arguments):
            yield node, "prefer-interpolation: use a string with ${} instead of concat()"


def _any(_program: Program, template: Template) -> Iterator[Fault]:
    for node in template.nodes:
        if isinstance(node, Call) and node.function == "any":
            yield node, "no-explicit-any: any() hides type faults"


def _explicit_locations(program: Program, template: Template) -> Iterator[Fault]:
    for declared in template.of("module"):
        path = program.resolve(template.path, declared.path)
        params = declared.body.get("params") if declared.body else None
        expected = module_params(program.template(path)).fields if path in program.texts else {}
        given = {found.key.literal for found in params.properties} if isinstance(params, Object) else set()
        if "location" in expected and "location" not in given:
            yield declared, f"explicit-values-for-loc-params: pass a location to {declared.name!r}"


def _needless_dependencies(_program: Program, template: Template) -> Iterator[Fault]:
    for declared in (*template.resources, *template.of("module")):
        depends = declared.body.get("dependsOn") if declared.body else None
        if not isinstance(depends, Array) or declared.body is None:
            continue
        used = {name for found in declared.body.properties if found.value is not depends for name in _names(found)}
        for item in depends.items:
            if isinstance(item, Name) and item.name in used:
                yield item, f"no-unnecessary-dependson: {declared.name!r} refers to {item.name!r} already"


def _names(node: Node) -> Iterator[str]:
    return (inner.name for inner in walk(node) if isinstance(inner, Name))


def _parent_property(_program: Program, template: Template) -> Iterator[Fault]:
    for declared in template.resources:
        name = declared.body.get("name") if declared.body else None
        if isinstance(name, String) and _names_parent(name) and _is_child(template, declared):
            yield name, "use-parent-property: give the child its own name only, and its parent by `parent`"


def _names_parent(name: String) -> bool:
    return any(isinstance(piece, str) and "/" in piece for piece in name.pieces)


def _is_child(template: Template, declared: Declaration) -> bool:
    return template.resource_type(declared).partition("@")[0].count("/") > 1


_RULES: Mapping[str, Callable[[Program, Template], Iterator[Fault]]] = {
    "simplify-interpolation": _simplify_interpolation,
    "prefer-unquoted-property-names": _unquoted_names,
    "no-loc-expr-outside-params": _location_outside_params,
    "no-hardcoded-location": _hardcoded_location,
    "no-hardcoded-env-urls": _hardcoded_hosts,
    "prefer-interpolation": _concat,
    "no-explicit-any": _any,
    "explicit-values-for-loc-params": _explicit_locations,
    "no-unnecessary-dependson": _needless_dependencies,
    "use-parent-property": _parent_property,
}
