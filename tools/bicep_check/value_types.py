"""Types of values, and whether a value of one type can be assigned where another is expected."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AnyType:
    """Nothing is known about the value, so it can be assigned anywhere."""


@dataclass(frozen=True, slots=True)
class NullType:
    """`null`."""


@dataclass(frozen=True, slots=True)
class StringType:
    """A string.

    Attributes
    ----------
    allowed
        The values that are allowed; empty if any string is.
    min_length, max_length
        The length in characters; None means unlimited.
    pattern
        A regular expression that the value must match.
    known
        The values that the published type documents. The compiler accepts others; this tool reports them, because
        they are nearly always spelling mistakes.
    computed
        True if the lengths were computed from an expression: the compiler then warns if the string may be too short.
    """

    allowed: frozenset[str] = frozenset()
    min_length: int = 0
    max_length: int | None = None
    pattern: str = ""
    known: frozenset[str] = frozenset()
    computed: bool = False


@dataclass(frozen=True, slots=True)
class IntegerType:
    """An integer: one of `allowed` unless that is empty, from `minimum` to `maximum`."""

    allowed: frozenset[int] = frozenset()
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class BooleanType:
    """A boolean; `value` is set if it is known."""

    value: bool | None = None


@dataclass(frozen=True, slots=True)
class ArrayType:
    """An array whose items have one type."""

    item: "Type"


@dataclass(frozen=True, slots=True)
class Field:
    """A property of an object type."""

    type: "Type"
    required: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ObjectType:
    """An object: its known properties, and the type of additional ones. None means that no others are allowed."""

    fields: Mapping[str, Field]
    additional: "Type | None" = None
    name: str = "the object"


@dataclass(frozen=True, slots=True)
class DiscriminatedType:
    """An object whose property `discriminator` selects one of the variants."""

    discriminator: str
    variants: Mapping[str, "Type"]


@dataclass(frozen=True, slots=True)
class UnionType:
    """A value of one of several types."""

    options: tuple["Type", ...]


@dataclass(frozen=True, slots=True)
class DeferredType:
    """A type that is built when it is needed, because published types can contain themselves."""

    resolve: Callable[[], "Type"] = field(compare=False)
    name: str


type Type = (
    AnyType
    | NullType
    | StringType
    | IntegerType
    | BooleanType
    | ArrayType
    | ObjectType
    | DiscriminatedType
    | UnionType
    | DeferredType
)

ANY = AnyType()
ANY_OBJECT = ObjectType({}, ANY)


def string_literal(text: str) -> StringType:
    """Return the type of one fixed string."""
    return StringType(frozenset({text}), len(text), len(text))


def concatenated(parts: Iterable[StringType]) -> StringType:
    """Return the type of strings joined together: the sums of their lengths."""
    strings = tuple(parts)
    lengths = [part.max_length for part in strings if part.max_length is not None]
    bounded = len(lengths) == len(strings)
    return StringType(min_length=sum(part.min_length for part in strings), max_length=sum(lengths) if bounded else None)


def widest(options: Iterable[StringType]) -> StringType:
    """Return the type of a string that is one of several: the least and the greatest length."""
    strings = tuple(options)
    lengths = [option.max_length for option in strings if option.max_length is not None]
    bounded = bool(strings) and len(lengths) == len(strings)
    return StringType(
        min_length=min((option.min_length for option in strings), default=0),
        max_length=max(lengths) if bounded else None,
    )


def resolved(type_: Type) -> Type:
    """Return the type itself, built if it is deferred."""
    while isinstance(type_, DeferredType):
        type_ = type_.resolve()
    return type_


def without_null(type_: Type) -> Type:
    """Return the type without `null` among its options."""
    type_ = resolved(type_)
    if not isinstance(type_, UnionType):
        return type_
    return union(option for option in map(resolved, type_.options) if not isinstance(option, NullType))


def nullable(type_: Type) -> Type:
    """Return the type with `null` added."""
    return union((type_, NullType()))


def may_be_null(type_: Type) -> bool:
    """Return True if `null` is a possible value."""
    type_ = resolved(type_)
    return isinstance(type_, NullType) or (isinstance(type_, UnionType) and any(map(may_be_null, type_.options)))


def union(options: Iterable[Type]) -> Type:
    """Return the type of a value that has one of these types; a single type is returned as it is."""
    flat: list[Type] = []
    for option in options:
        inner = resolved(option)
        flat += inner.options if isinstance(inner, UnionType) else (inner,)
    unique = tuple(type_ for position, type_ in enumerate(flat) if type_ not in flat[:position])
    if any(isinstance(type_, AnyType) for type_ in unique):
        return ANY
    return unique[0] if len(unique) == 1 else UnionType(unique)


def describe(type_: Type) -> str:  # noqa: PLR0911 one return a type
    """Return a type as a message shows it."""
    match type_:
        case StringType(allowed=allowed) if allowed:
            return " | ".join(repr(option) for option in sorted(allowed))
        case StringType():
            return "string"
        case IntegerType(allowed=integers) if integers:
            return " | ".join(map(str, sorted(integers)))
        case UnionType(options=options):
            return " | ".join(map(describe, options))
        case ArrayType(item=item):
            return f"({describe(item)})[]"
        case DeferredType(name=name) | ObjectType(name=name):
            return name
        case _:
            names = {IntegerType: "int", BooleanType: "bool", NullType: "null", AnyType: "any"}
            return names.get(type(type_), "object")


def mismatch(actual: Type, expected: Type) -> str | None:  # noqa: PLR0911 one return a pair of types
    """Return why a value cannot be assigned where `expected` is, as the end of a sentence; None if it can."""
    actual, expected = resolved(actual), resolved(expected)
    match actual, expected:
        case (AnyType(), _) | (_, AnyType()):
            return None
        case UnionType(options=options), _:
            return next((fault for option in options if (fault := mismatch(option, expected))), None)
        case _, UnionType(options=options):
            fits = any(mismatch(actual, option) is None for option in options)
            return None if fits else _fits_no_option(actual, without_null(expected))
        case StringType(), StringType():
            return _string_mismatch(actual, expected)
        case IntegerType(), IntegerType():
            return _integer_mismatch(actual, expected)
        case BooleanType(value=value), BooleanType(value=only):
            return None if only is None or value in (None, only) else _other_type(actual, expected)
        case ArrayType(item=item), ArrayType(item=expected_item):
            return mismatch(item, expected_item)
        case ObjectType(), ObjectType():
            return _object_mismatch(actual, expected)
        case ObjectType(), DiscriminatedType():
            return None  # an object whose discriminator is not written out is not followed
        case _:
            return None if type(actual) is type(expected) else _other_type(actual, expected)


def _fits_no_option(actual: Type, expected: Type) -> str | None:
    """Explain the mismatch by the one type beside null, if there is just one."""
    return _other_type(actual, expected) if isinstance(expected, UnionType) else mismatch(actual, expected)


def _other_type(actual: Type, expected: Type) -> str:
    return f"is {describe(actual)}, but {describe(without_null(expected))} is expected"


def _string_mismatch(actual: StringType, expected: StringType) -> str | None:  # noqa: PLR0911 one return a fault
    if expected.allowed and actual.allowed - expected.allowed:
        return _other_type(actual, expected)
    if expected.known and actual.allowed - expected.known:
        return f"is {describe(actual)}, but the documented values are {describe(StringType(expected.known))}"
    least, most = expected.min_length, expected.max_length
    if most is not None and actual.max_length is not None and actual.max_length > most:
        return f"may have {actual.max_length} characters, but the maximum is {most}"
    if actual.max_length is not None and actual.max_length < least:
        return f"has at most {actual.max_length} characters, but the minimum is {least}"
    if actual.computed and actual.min_length < least:
        return f"may have {actual.min_length} characters, but the minimum is {least} (BCP334)"
    if expected.pattern and any(not re.search(expected.pattern, option) for option in actual.allowed):
        return f"is {describe(actual)}, but must match {expected.pattern}"
    return None


def _integer_mismatch(actual: IntegerType, expected: IntegerType) -> str | None:
    if expected.allowed and actual.allowed - expected.allowed:
        return _other_type(actual, expected)
    for value in actual.allowed:
        if expected.minimum is not None and value < expected.minimum:
            return f"is {value}, but the minimum is {expected.minimum}"
        if expected.maximum is not None and value > expected.maximum:
            return f"is {value}, but the maximum is {expected.maximum}"
    return None


def _object_mismatch(actual: ObjectType, expected: ObjectType) -> str | None:
    for name, found in actual.fields.items():
        field_ = expected.fields.get(name) or (Field(expected.additional) if expected.additional else None)
        if field_ is None:
            return f"has a property {name!r} that {expected.name} does not have"
        if fault := mismatch(found.type if field_.required else without_null(found.type), field_.type):
            return f"has a property {name!r} that {fault}"
    if actual.additional is None:
        for name, field_ in expected.fields.items():
            if field_.required and not field_.read_only and name not in actual.fields:
                return f"lacks the property {name!r}"
    return None
