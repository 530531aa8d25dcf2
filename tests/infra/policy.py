"""The project's own rules for the infrastructure, which no compiler knows. The tables are in facts.py and flex.py."""

import re
from collections.abc import Callable, Iterator

from tests.infra.facts import (
    API_VERSIONS,
    MUSTS,
    NEWEST_VERSIONS,
    OLD_VERSIONS,
    ROLE_IDS,
    ROLES,
    VERSIONS_REVIEWED,
    Must,
)
from tests.infra.flex import FLEX_ACCEPTS, FLEX_REFUSES
from tools.bicep_check.program import Finding, Program, Template
from tools.bicep_check.tree import (
    Array,
    ArrayAccess,
    Boolean,
    Declaration,
    Integer,
    Loop,
    Name,
    Node,
    Object,
    String,
    walk,
)

_GUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
Found = Iterator[tuple[Template, Node | None, str]]


def check_policy(program: Program) -> list[Finding]:
    """Return the violations of the project's rules in the templates.

    Raises
    ------
    BicepSyntaxError
        A template has a syntax error.
    """
    rules: tuple[Callable[[Program], Found], ...] = (
        _versions,
        _old_versions,
        _musts,
        _flex,
        _publishing,
        _role_ids,
        _roles,
    )
    return [
        Finding(template.path, node.line if node else 1, message)
        for rule in rules
        for template, node, message in rule(program)
    ]


def templates(program: Program) -> list[Template]:
    """Return all templates."""
    return [program.template(path) for path in program.names(".bicep")]


def deployed(program: Program, resource: str) -> Iterator[tuple[Template, Declaration]]:
    """Yield the resources of a type, with their templates, without those that are `existing`."""
    for template in templates(program):
        for declared in template.resources:
            if template.resource_type(declared).partition("@")[0] == resource and not declared.existing:
                yield template, declared


def value_at(template: Template, body: Node | None, path: str) -> Node | None:
    """Return the value at a path of properties in an object, or None. Variables on the way are followed."""
    node = body
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Object) else None
        if isinstance(node, Name) and (symbol := template.symbols.get(node.name)) and symbol.keyword == "var":
            node = symbol.value
    return node


def literal_value(node: Node | None) -> str | int | bool | None:
    """Return the value of a literal, and None for any other expression."""
    match node:
        case String():
            return node.literal
        case Integer(value=number):
            return number
        case Boolean(value=flag):
            return flag
        case _:
            return None


def _versions(program: Program) -> Found:
    for template in templates(program):
        for declared in template.resources:
            resource, _, version = template.resource_type(declared).partition("@")
            least = max((API_VERSIONS[name] for name in API_VERSIONS if _within(resource, name)), default=None)
            if least is None:
                yield template, declared, f"{resource} is not in API_VERSIONS, the table of lowest versions"
            elif version < least:
                yield (
                    template,
                    declared,
                    f"{declared.name} has the version {version}, but needs at least {least}",
                )


def _old_versions(program: Program) -> Found:
    """Each resource with an accepted old version has a directive on the line above it; no other resource has one."""
    for template in templates(program):
        suppressed = {found.line + 1 for found in template.directives if "use-recent-api-versions" in found.codes}
        for declared in template.resources:
            resource, _, version = template.resource_type(declared).partition("@")
            if (resource in OLD_VERSIONS) != (declared.line in suppressed):
                yield (
                    template,
                    declared,
                    f"{declared.name}: OLD_VERSIONS and the directives on old versions differ",
                )
            if not _recent_or_accepted(resource, version):
                yield template, declared, f"{declared.name}: {version} is old, and neither the newest nor accepted"
            suppressed.discard(declared.line)
        if suppressed:
            yield template, None, f"line {min(suppressed)} is no resource, so the directive above it suppresses nothing"


def _recent_or_accepted(resource: str, version: str) -> bool:
    if old := OLD_VERSIONS.get(resource):
        return version == old.version
    two_years_before = VERSIONS_REVIEWED.replace(year=VERSIONS_REVIEWED.year - 2).isoformat()
    return version[:10] >= two_years_before or version == NEWEST_VERSIONS.get(resource)


def _within(resource: str, name: str) -> bool:
    return resource == name or resource.startswith(f"{name}/")


def _musts(program: Program) -> Found:
    for must in MUSTS:
        found = list(deployed(program, must.resource))
        if not found:
            yield templates(program)[0], None, f"there is no {must.resource}"
        for template, declared in found:
            yield from _must(template, declared, must)


def _must(template: Template, declared: Declaration, must: Must) -> Found:
    value = value_at(template, declared.body, must.path)
    # The types must be equal too, because 1 == True.
    if not any(literal_value(value) == wanted and type(literal_value(value)) is type(wanted) for wanted in must.values):
        wanted = " or ".join(map(repr, must.values))
        yield template, value or declared, f"{declared.name}.{must.path} must be {wanted}: {must.why}"


def _flex(program: Program) -> Found:
    """A site has only properties that are known to deploy to Flex Consumption."""
    for template, site in deployed(program, "Microsoft.Web/sites"):
        for path, accepted in FLEX_ACCEPTS.items():
            body = value_at(template, site.body, path)
            if not isinstance(body, Object) or body.spreads:
                yield (
                    template,
                    body or site,
                    f"write out {site.name}.{path}, so that each property can be checked",
                )
                continue
            for found in body.properties:
                name = found.key.literal or "?"
                if name not in accepted:
                    yield template, found, f"{site.name}.{path}.{name} {_refusal(f'{path}.{name}')}"


def _refusal(path: str) -> str:
    """Return why a property is not allowed. Azure ignores the case of names."""
    refused = {known.lower(): why for known, why in FLEX_REFUSES.items()}
    why = refused.get(path.lower())
    return (
        f"is refused by Flex Consumption: {why}"
        if why
        else "is not in FLEX_ACCEPTS: find out if Flex Consumption accepts it"
    )


def _publishing(program: Program) -> Found:
    policies = list(deployed(program, "Microsoft.Web/sites/basicPublishingCredentialsPolicies"))
    names = {literal_value(declared.body.get("name")) for _, declared in policies if declared.body}
    for name in sorted({"ftp", "scm"} - names):
        yield templates(program)[0], None, f"basic publishing credentials for {name} are not disabled"


def _role_ids(program: Program) -> Found:
    ids = {identifier: name for name, identifier in ROLE_IDS.items()}
    for template in templates(program):
        named = {
            id(found.value): found.key.literal
            for node in template.nodes
            if isinstance(node, Object)
            for found in node.properties
        }
        for node in template.nodes:
            text = node.literal if isinstance(node, String) else None
            if text and _GUID.match(text) and named.get(id(node)) != ids.get(text.lower(), ""):
                yield template, node, f"{text} is not the id of the role {named.get(id(node))!r}"


def _roles(program: Program) -> Found:
    given: set[tuple[str, str]] = set()
    for template, declared in deployed(program, "Microsoft.Authorization/roleAssignments"):
        scope, roles = _scope(template, declared), _assigned(template, declared)
        if scope is None or not roles:
            yield template, declared, f"{declared.name}: its role or its scope cannot be determined"
        given |= {(scope or "?", role) for role in roles}
    for scope, role in sorted(ROLES - given):
        yield templates(program)[0], None, f"the role {role!r} at {scope} is missing"
    for scope, role in sorted(given - ROLES):
        yield templates(program)[0], None, f"the role {role!r} at {scope} is not needed"


def _scope(template: Template, declared: Declaration) -> str | None:
    """Return the param that names the resource at which a role is assigned."""
    scope = declared.body.get("scope") if declared.body else None
    symbol = template.symbols.get(scope.name) if isinstance(scope, Name) else None
    name = symbol.body.get("name") if symbol and symbol.body else None
    return name.name if isinstance(name, Name) else None


def _assigned(template: Template, declared: Declaration) -> set[str]:
    """Return the roles of an assignment: one by its name, or those of the list that it loops over."""
    identifier = value_at(template, declared.body, "properties.roleDefinitionId")
    indexes = [node.index for node in walk(identifier) if isinstance(node, ArrayAccess)]
    loop = declared.value if isinstance(declared.value, Loop) else None
    roles: set[str] = set()
    for index in indexes:
        if loop and isinstance(index, Name) and index.name == loop.item:
            source = template.symbols.get(loop.source.name) if isinstance(loop.source, Name) else None
            items = source.value.items if source and isinstance(source.value, Array) else ()
            roles |= {str(literal_value(item)) for item in items}
        elif isinstance(index, String):
            roles.add(str(index.literal))
    return roles
