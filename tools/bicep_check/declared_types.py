"""The types that a template's own declarations give: params, types, resources and modules."""

from collections.abc import Mapping

from tools.bicep_check.program import Program, Template
from tools.bicep_check.published_types import published_type
from tools.bicep_check.tree import (
    Array,
    ArrayOf,
    Boolean,
    Call,
    Condition,
    Declaration,
    Integer,
    Loop,
    Name,
    Node,
    Nullable,
    Object,
    String,
    Union,
)
from tools.bicep_check.value_types import (
    ANY,
    ANY_OBJECT,
    ArrayType,
    BooleanType,
    DiscriminatedType,
    Field,
    IntegerType,
    NullType,
    ObjectType,
    StringType,
    Type,
    UnionType,
    resolved,
    string_literal,
    union,
)

_BUILT_IN: Mapping[str, Type] = {
    "string": StringType(),
    "int": IntegerType(),
    "bool": BooleanType(),
    "object": ANY_OBJECT,
    "array": ArrayType(ANY),
    "any": ANY,
}
# The properties that Bicep adds to the body of every resource.
_BODY = {"scope": Field(ANY), "parent": Field(ANY), "dependsOn": Field(ArrayType(ANY))}
# The properties of every resource that are known before it is deployed, even if its condition is false.
KNOWN_AT_START = frozenset({"id", "name", "type", "apiVersion"})
_SYMBOL = {name: Field(StringType()) for name in KNOWN_AT_START}


class UnknownTypeError(Exception):
    """A type expression names no type."""


def declared_type(node: Node | None, template: Template) -> Type:  # noqa: PLR0911 one return a sort of type
    """Return the type that a type expression means; no expression means any type.

    Raises
    ------
    UnknownTypeError
        The expression names no type.
    """
    match node:
        case None:
            return ANY
        case Name(name=name):
            return _named(name, template)
        case ArrayOf(item=item):
            return ArrayType(declared_type(item, template))
        case Nullable(type=inner):
            return union((declared_type(inner, template), NullType()))
        case Union(options=options):
            return union(declared_type(option, template) for option in options)
        case Object():
            return _object(node, template)
        case String() if node.literal is not None:
            return string_literal(node.literal)
        case Integer(value=value):
            return IntegerType(frozenset({value}))
        case Boolean(value=flag):
            return BooleanType(flag)
        case _:
            raise UnknownTypeError("is no type")


def _named(name: str, template: Template) -> Type:
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    declared = template.symbols.get(name)
    if declared is None or declared.keyword != "type":
        raise UnknownTypeError(f"{name!r} is no type")
    return narrowed(declared_type(declared.type, template), declared.decorators)


def _object(node: Object, template: Template) -> ObjectType:
    fields = {}
    for found in node.properties:
        type_ = narrowed(declared_type(found.value, template), found.decorators)
        fields[found.key.literal or ""] = Field(type_, required=not isinstance(found.value, Nullable))
    return ObjectType(fields)


def param_type(declared: Declaration, template: Template) -> Type:
    """Return the type of a param: its declared type, narrowed by its decorators."""
    return narrowed(declared_type(declared.type, template), declared.decorators)


def known_type(declared: Declaration, template: Template) -> Type:
    """Return the type of a param or output, or any type if it names none, which is reported at the declaration."""
    try:
        return param_type(declared, template)
    except UnknownTypeError:
        return ANY


def narrowed(type_: Type, decorators: tuple[Call, ...]) -> Type:
    """Return a type as @allowed, @minLength, @maxLength, @minValue and @maxValue restrict it."""
    given = {found.function: found.arguments[0] for found in decorators if found.arguments}
    bounds = {name: value.value for name, value in given.items() if isinstance(value, Integer)}
    if isinstance(allowed := given.get("allowed"), Array):
        return union(_literal_type(item) for item in allowed.items)
    match type_:
        case StringType():
            least, most = bounds.get("minLength", type_.min_length), bounds.get("maxLength", type_.max_length)
            return StringType(type_.allowed, least, most, type_.pattern, type_.known)
        case IntegerType():
            least_value, most_value = bounds.get("minValue", type_.minimum), bounds.get("maxValue", type_.maximum)
            return IntegerType(type_.allowed, least_value, most_value)
        case UnionType(options=options):
            return union(narrowed(option, decorators) for option in options)
        case _:
            return type_


def _literal_type(node: Node) -> Type:
    match node:
        case String() if node.literal is not None:
            return string_literal(node.literal)
        case Integer(value=value):
            return IntegerType(frozenset({value}))
        case _:
            return ANY


def resource_body(resource: str) -> Type | None:
    """Return the type of a resource's body, or None if the resource's type is not among the published ones.

    Parameters
    ----------
    resource
        `Provider/type@version`.
    """
    type_ = published_type(resource)
    match resolved(type_) if type_ else None:
        case ObjectType(fields=fields, name=name):
            return ObjectType({**fields, **_BODY}, name=name)
        case DiscriminatedType(discriminator=key, variants=variants):
            return DiscriminatedType(key, {tag: _with_body(variant) for tag, variant in variants.items()})
        case _:
            return None


def _with_body(variant: Type) -> Type:
    type_ = resolved(variant)
    if not isinstance(type_, ObjectType):
        return type_
    return ObjectType({**type_.fields, **_BODY}, type_.additional, type_.name)


def resource_type(declared: Declaration, template: Template) -> Type:
    """Return the type of a resource's symbol in an expression."""
    published = published_type(template.resource_type(declared))
    body = resolved(published) if published else ANY_OBJECT
    if isinstance(body, ObjectType):
        body = ObjectType({**body.fields, **_SYMBOL}, body.additional, f"resource {declared.name!r}")
    else:
        body = ObjectType(_SYMBOL, ANY)
    return _with_loop_and_condition(declared, body)


def module_type(declared: Declaration, program: Program, template: Template) -> Type:
    """Return the type of a module's symbol in an expression: its name and its outputs."""
    path = program.resolve(template.path, declared.path)
    if path not in program.texts:
        return ANY
    called = program.template(path)
    fields = {found.name: Field(known_type(found, called)) for found in called.of("output")}
    outputs = Field(ObjectType(fields, name=f"the outputs of module {declared.name!r}"))
    symbol = ObjectType({"name": Field(StringType()), "outputs": outputs}, name=declared.name)
    return _with_loop_and_condition(declared, symbol)


def module_params(called: Template) -> ObjectType:
    """Return the type of the `params` that a template expects from its caller."""
    fields = {}
    for found in called.of("param"):
        required = found.value is None and not isinstance(found.type, Nullable)
        fields[found.name] = Field(known_type(found, called), required=required)
    return ObjectType(fields, name=f"module {called.path!r}")


def _with_loop_and_condition(declared: Declaration, type_: Type) -> Type:
    """Return the type of a symbol: an array if it is declared in a loop, nullable if it has a condition."""
    value = declared.value
    if isinstance(value, Loop):
        inner = union((type_, NullType())) if isinstance(value.body, Condition) else type_
        return ArrayType(inner)
    return union((type_, NullType())) if isinstance(value, Condition) else type_
