"""The project's own rules of the infrastructure, beyond what a compiler knows: held to the tables of facts."""

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
from tests.infra.flex import FLEX_REFUSES, FLEX_TAKES
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


def inspect(program: Program) -> list[Finding]:
    """What of the project's rules the templates do not keep. They must be readable."""
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
    """All templates."""
    return [program.template(path) for path in program.names(".bicep")]


def deployed(program: Program, resource: str) -> Iterator[tuple[Template, Declaration]]:
    """The resources of a type that are deployed, not only read."""
    for template in templates(program):
        for declared in template.resources:
            if template.resource_type(declared).partition("@")[0] == resource and not declared.existing:
                yield template, declared


def at(template: Template, body: Node | None, path: str) -> Node | None:
    """The value at a path of properties in an object; variables on the way are followed."""
    node = body
    for name in path.split("."):
        node = node.get(name) if isinstance(node, Object) else None
        if isinstance(node, Name) and (symbol := template.symbols.get(node.name)) and symbol.keyword == "var":
            node = symbol.value
    return node


def plain(node: Node | None) -> str | int | bool | None:
    """The value of a literal; None of anything else."""
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
                yield template, declared, f"the least API version of {resource} is not in the table of facts"
            elif version < least:
                yield template, declared, f"{declared.name} is of {version}, but {least} is the least"


def _old_versions(program: Program) -> Found:
    """A resource whose version stays old has its directive on the line above it, and no other resource has one."""
    for template in templates(program):
        silenced = {found.line + 1 for found in template.directives if "use-recent-api-versions" in found.codes}
        for declared in template.resources:
            resource, _, version = template.resource_type(declared).partition("@")
            if (resource in OLD_VERSIONS) != (declared.line in silenced):
                yield template, declared, f"{declared.name}: OLD_VERSIONS and the directives on old versions differ"
            if not _recent_or_accepted(resource, version):
                yield template, declared, f"{declared.name}: {version} is old, and neither the newest nor accepted"
            silenced.discard(declared.line)
        if silenced:
            yield template, None, f"line {min(silenced)} is no resource, so the directive above it silences nothing"


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
    value = at(template, declared.body, must.path)
    # By type too: 1 is not true.
    if not any(plain(value) == wanted and type(plain(value)) is type(wanted) for wanted in must.values):
        wanted = " or ".join(map(repr, must.values))
        yield template, value or declared, f"{declared.name}.{must.path} must be {wanted}: {must.why}"


def _flex(program: Program) -> Found:
    """What Flex Consumption refuses of a site, and what no template that is known to deploy gives to it."""
    for template, site in deployed(program, "Microsoft.Web/sites"):
        for path, taken in FLEX_TAKES.items():
            body = at(template, site.body, path)
            if not isinstance(body, Object) or body.spreads:
                yield (
                    template,
                    body or site,
                    f"write {site.name}.{path} out: what Flex refuses must be seen",
                )
                continue
            for found in body.properties:
                name = found.key.literal or "?"
                if name not in taken:
                    yield template, found, f"{site.name}.{path}.{name} {_refusal(f'{path}.{name}')}"


def _refusal(path: str) -> str:
    """Why a property is refused. Azure compares names without their case."""
    refused = {known.lower(): why for known, why in FLEX_REFUSES.items()}
    why = refused.get(path.lower())
    return f"is refused by Flex Consumption: {why}" if why else "is not in FLEX_TAKES: does Flex Consumption take it?"


def _publishing(program: Program) -> Found:
    policies = list(deployed(program, "Microsoft.Web/sites/basicPublishingCredentialsPolicies"))
    names = {plain(declared.body.get("name")) for _, declared in policies if declared.body}
    for name in sorted({"ftp", "scm"} - names):
        yield templates(program)[0], None, f"basic publishing credentials of {name} are not refused"


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
            yield template, declared, f"{declared.name}: what it gives, and where, cannot be read"
        given |= {(scope or "?", role) for role in roles}
    for scope, role in sorted(ROLES - given):
        yield templates(program)[0], None, f"the role {role!r} at {scope} is missing"
    for scope, role in sorted(given - ROLES):
        yield templates(program)[0], None, f"the role {role!r} at {scope} is more than what is needed"


def _scope(template: Template, declared: Declaration) -> str | None:
    """The param that names the resource at which a role is given."""
    scope = declared.body.get("scope") if declared.body else None
    symbol = template.symbols.get(scope.name) if isinstance(scope, Name) else None
    name = symbol.body.get("name") if symbol and symbol.body else None
    return name.name if isinstance(name, Name) else None


def _assigned(template: Template, declared: Declaration) -> set[str]:
    """The roles that an assignment gives: one by its name, or those of the list that it loops over."""
    identifier = at(template, declared.body, "properties.roleDefinitionId")
    indexes = [node.index for node in walk(identifier) if isinstance(node, ArrayAccess)]
    loop = declared.value if isinstance(declared.value, Loop) else None
    roles: set[str] = set()
    for index in indexes:
        if loop and isinstance(index, Name) and index.name == loop.item:
            source = template.symbols.get(loop.source.name) if isinstance(loop.source, Name) else None
            items = source.value.items if source and isinstance(source.value, Array) else ()
            roles |= {str(plain(item)) for item in items}
        elif isinstance(index, String):
            roles.add(str(index.literal))
    return roles
