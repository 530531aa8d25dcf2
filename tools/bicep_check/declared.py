"""The kinds that a template's own declarations give: params, types, resources, modules."""

from collections.abc import Mapping

from tools.bicep_check.program import Program, Template
from tools.bicep_check.published import published
from tools.bicep_check.tree import (
    Array,
    Call,
    Condition,
    Declaration,
    ListOf,
    Loop,
    Name,
    Node,
    Number,
    Object,
    OneOf,
    Optional,
    Text,
    Truth,
)
from tools.bicep_check.types import (
    ANYTHING,
    OPEN,
    Either,
    Field,
    Flag,
    Nothing,
    Record,
    Several,
    Tagged,
    Type,
    Whole,
    Words,
    either,
    literal,
    now,
)

_PLAIN: Mapping[str, Type] = {
    "string": Words(),
    "int": Whole(),
    "bool": Flag(),
    "object": OPEN,
    "array": Several(ANYTHING),
    "any": ANYTHING,
}
# What Bicep adds to every resource's body.
_BODY = {"scope": Field(ANYTHING), "parent": Field(ANYTHING), "dependsOn": Field(Several(ANYTHING))}
_READ = {name: Field(Words()) for name in ("id", "name", "type", "apiVersion")}


class UnknownType(Exception):
    """A type expression names no type."""


def declared_type(node: Node | None, template: Template) -> Type:  # noqa: PLR0911 one return a kind of type
    """What a type expression means.

    Raises
    ------
    UnknownType
        It names what is no type.
    """
    match node:
        case None:
            return ANYTHING
        case Name(name=name):
            return _named(name, template)
        case ListOf(item=item):
            return Several(declared_type(item, template))
        case Optional(type=inner):
            return either((declared_type(inner, template), Nothing()))
        case OneOf(options=options):
            return either(declared_type(option, template) for option in options)
        case Object():
            return _object(node, template)
        case Text() if node.literal is not None:
            return literal(node.literal)
        case Number(value=value):
            return Whole(frozenset({value}))
        case Truth(value=flag):
            return Flag(flag)
        case _:
            raise UnknownType("is no type")


def _named(name: str, template: Template) -> Type:
    if name in _PLAIN:
        return _PLAIN[name]
    declared = template.symbols.get(name)
    if declared is None or declared.keyword != "type":
        raise UnknownType(f"{name!r} is no type")
    return narrowed(declared_type(declared.type, template), declared.decorators)


def _object(node: Object, template: Template) -> Record:
    fields = {}
    for found in node.properties:
        kind = narrowed(declared_type(found.value, template), found.decorators)
        fields[found.key.literal or ""] = Field(kind, required=not isinstance(found.value, Optional))
    return Record(fields)


def param_type(declared: Declaration, template: Template) -> Type:
    """What a param takes: its type, narrowed by its decorators."""
    return narrowed(declared_type(declared.type, template), declared.decorators)


def narrowed(kind: Type, decorators: tuple[Call, ...]) -> Type:
    """A kind as @allowed, @minLength and their kin leave it."""
    given = {found.function: found.arguments[0] for found in decorators if found.arguments}
    bounds = {name: value.value for name, value in given.items() if isinstance(value, Number)}
    if isinstance(allowed := given.get("allowed"), Array):
        return either(_value(item) for item in allowed.items)
    match kind:
        case Words():
            longest = bounds.get("maxLength", kind.longest)
            return Words(kind.options, bounds.get("minLength", kind.shortest), longest, kind.pattern, kind.known)
        case Whole():
            return Whole(kind.options, bounds.get("minValue", kind.least), bounds.get("maxValue", kind.most))
        case Either(options=options):
            return either(narrowed(option, decorators) for option in options)
        case _:
            return kind


def _value(node: Node) -> Type:
    match node:
        case Text() if node.literal is not None:
            return literal(node.literal)
        case Number(value=value):
            return Whole(frozenset({value}))
        case _:
            return ANYTHING


def resource_body(resource: str) -> Type | None:
    """What may be written in a resource's body: the published type, and what Bicep adds."""
    kind = published(resource)
    match now(kind) if kind else None:
        case Record(fields=fields, name=name):
            return Record({**fields, **_BODY}, name=name)
        case Tagged(key=key, variants=variants):
            return Tagged(key, {tag: _with_body(variant) for tag, variant in variants.items()})
        case _:
            return None


def _with_body(variant: Type) -> Type:
    kind = now(variant)
    return Record({**kind.fields, **_BODY}, kind.rest, kind.name) if isinstance(kind, Record) else kind


def resource_value(declared: Declaration, template: Template) -> Type:
    """What a resource's symbol gives to read."""
    kind = published(template.resource_type(declared))
    body = now(kind) if kind else OPEN
    if isinstance(body, Record):
        body = Record({**body.fields, **_READ}, body.rest, f"resource {declared.name!r}")
    else:
        body = Record(_READ, ANYTHING)
    return _repeated(declared, body)


def module_value(declared: Declaration, program: Program, template: Template) -> Type:
    """What a module's symbol gives to read: its name and its outputs."""
    path = program.resolve(template.path, declared.path)
    if path not in program.texts:
        return ANYTHING
    called = program.template(path)
    outputs = {found.name: Field(declared_type(found.type, called)) for found in called.of("output")}
    record = Record(outputs, name=f"the outputs of module {declared.name!r}")
    return _repeated(declared, Record({"name": Field(Words()), "outputs": Field(record)}, name=declared.name))


def module_params(called: Template) -> Record:
    """What a module asks for."""
    fields = {}
    for found in called.of("param"):
        kind = param_type(found, called)
        needed = found.value is None and not isinstance(found.type, Optional)
        fields[found.name] = Field(kind, required=needed)
    return Record(fields, name=f"module {called.path!r}")


def _repeated(declared: Declaration, kind: Type) -> Type:
    """A symbol declared in a loop is an array; one under a condition may be null."""
    value = declared.value
    if isinstance(value, Loop):
        inner = either((kind, Nothing())) if isinstance(value.body, Condition) else kind
        return Several(inner)
    return either((kind, Nothing())) if isinstance(value, Condition) else kind
