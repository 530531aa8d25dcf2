"""Checks of declared names: each is declared once, used, described and no secret; decorators are known."""

from collections.abc import Iterator

from tools.bicep_check.functions import DECORATORS
from tools.bicep_check.program import SYMBOLS, Finding, Program, Template
from tools.bicep_check.tokens import BicepSyntaxError
from tools.bicep_check.tree import Declaration, Name, Node, PropertyAccess, String, walk

_SECRET_WORDS = ("secret", "password", "connectionstring", "accesskey", "sastoken", "instrumentationkey")


def check_symbols(program: Program) -> list[Finding]:
    """Return what is wrong with the names in all templates. Files with syntax errors are reported elsewhere."""
    findings: list[Finding] = []
    for path in program.names(".bicep"):
        try:
            template = program.template(path)
        except BicepSyntaxError:
            continue
        for declared, message in _faults(template):
            findings.append(Finding(path, declared.line, message))
    return findings


def _faults(template: Template) -> Iterator[tuple[Declaration, str]]:
    yield from _declared_twice(template)
    yield from _unused(template)
    for declared in template.declared:
        yield from _description(declared)
        yield from _secret(declared)
        for decorator in declared.decorators:
            if declared.keyword not in DECORATORS.get(decorator.function, frozenset()):
                yield declared, f"@{decorator.function}() is no decorator of a {declared.keyword}"


def _declared_twice(template: Template) -> Iterator[tuple[Declaration, str]]:
    seen: set[tuple[bool, str]] = set()
    for declared in template.declarations:
        key = declared.keyword in SYMBOLS, declared.name
        if declared.keyword in (*SYMBOLS, "output"):
            if key in seen:
                yield declared, f"{declared.name!r} is declared twice (BCP028)"
            seen.add(key)


def _unused(template: Template) -> Iterator[tuple[Declaration, str]]:
    used = set(_used_names(template))
    for declared in template.symbols.values():
        must_be_used = declared.keyword in ("param", "var", "type") or declared.existing
        exported = declared.decorator("export") is not None
        if must_be_used and not exported and declared.name not in used:
            yield declared, f"{declared.keyword} {declared.name!r} is never used"


def _used_names(template: Template) -> Iterator[str]:
    for node in template.nodes:
        if isinstance(node, Name) or (isinstance(node, PropertyAccess) and node.nested):
            yield node.name
    for inner in template.resources:
        if (outer := template.parents.get(id(inner))) is not None:
            yield outer.name


def _description(declared: Declaration) -> Iterator[tuple[Declaration, str]]:
    if declared.keyword not in ("param", "output"):
        return
    decorator = declared.decorator("description")
    text = decorator.arguments[0] if decorator and decorator.arguments else None
    if not isinstance(text, String) or not (text.literal or "").strip():
        yield declared, f"{declared.keyword} {declared.name!r} has no @description"


def _secret(declared: Declaration) -> Iterator[tuple[Declaration, str]]:
    if declared.decorator("secure"):
        yield declared, f"{declared.keyword} {declared.name!r} is a secret: these templates work without secrets"
    if declared.keyword != "output":
        return
    names = (declared.name, *_properties_read(declared.value))
    if any(word in name.lower().replace("_", "") for word in _SECRET_WORDS for name in names):
        yield declared, f"output {declared.name!r} shows a secret"


def _properties_read(value: Node | None) -> Iterator[str]:
    return (node.name for node in walk(value) if isinstance(node, PropertyAccess))
