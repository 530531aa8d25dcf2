"""Kinds of values: what a declaration asks for and what an expression gives, and whether the one fits the other."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Anything:
    """Nothing is known of it, so everything fits."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """`null`."""


@dataclass(frozen=True, slots=True)
class Words:
    """A string: one of `options`, if there are any; of `shortest` to `longest` characters; of a pattern.

    `known` are the values that its documents tell. The compiler lets others pass; here they are taken for mistakes.
    `derived` says that the compiler computed the lengths of an expression: it then warns of one that may be too short.
    """

    options: frozenset[str] = frozenset()
    shortest: int = 0
    longest: int | None = None
    pattern: str = ""
    known: frozenset[str] = frozenset()
    derived: bool = False


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer: one of `options`, if there are any; from `least` to `most`."""

    options: frozenset[int] = frozenset()
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean, perhaps of a known value."""

    value: bool | None = None


@dataclass(frozen=True, slots=True)
class Several:
    """An array."""

    item: "Type"


@dataclass(frozen=True, slots=True)
class Field:
    """A property of a record."""

    type: "Type"
    required: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """An object: its known properties, and the kind of any further ones (None: there are none)."""

    fields: Mapping[str, Field]
    rest: "Type | None" = None
    name: str = "the object"


@dataclass(frozen=True, slots=True)
class Tagged:
    """An object whose property `key` says which of the variants it is."""

    key: str
    variants: Mapping[str, "Type"]


@dataclass(frozen=True, slots=True)
class Either:
    """One of several kinds."""

    options: tuple["Type", ...]


@dataclass(frozen=True, slots=True)
class Later:
    """A kind that is worked out when it is asked for: published types contain themselves."""

    resolve: Callable[[], "Type"] = field(compare=False)
    name: str


type Type = Anything | Nothing | Words | Whole | Flag | Several | Record | Tagged | Either | Later

ANYTHING = Anything()
OPEN = Record({}, ANYTHING)


def literal(text: str) -> Words:
    """The kind of one string."""
    return Words(frozenset({text}), len(text), len(text))


def joined(pieces: Iterable[Words]) -> Words:
    """The kind of strings put together."""
    found = tuple(pieces)
    longest = [piece.longest for piece in found if piece.longest is not None]
    whole = len(longest) == len(found)
    return Words(shortest=sum(piece.shortest for piece in found), longest=sum(longest) if whole else None)


def widest(options: Iterable[Words]) -> Words:
    """The kind of a string that is one of several."""
    found = tuple(options)
    longest = [option.longest for option in found if option.longest is not None]
    whole = bool(found) and len(longest) == len(found)
    return Words(
        shortest=min((option.shortest for option in found), default=0), longest=max(longest) if whole else None
    )


def now(kind: Type) -> Type:
    """A kind, worked out."""
    while isinstance(kind, Later):
        kind = kind.resolve()
    return kind


def without_null(kind: Type) -> Type:
    """A kind without `null` among its options."""
    kind = now(kind)
    if not isinstance(kind, Either):
        return kind
    return either(option for option in map(now, kind.options) if not isinstance(option, Nothing))


def nullable(kind: Type) -> Type:
    """A kind, or `null`."""
    return either((kind, Nothing()))


def may_be_null(kind: Type) -> bool:
    """Whether `null` is among the values."""
    kind = now(kind)
    return isinstance(kind, Nothing) or (isinstance(kind, Either) and any(map(may_be_null, kind.options)))


def either(options: Iterable[Type]) -> Type:
    """One of these kinds; of one kind, that."""
    flat: list[Type] = []
    for option in options:
        inner = now(option)
        flat += inner.options if isinstance(inner, Either) else (inner,)
    unique = tuple(kind for at, kind in enumerate(flat) if kind not in flat[:at])
    if any(isinstance(kind, Anything) for kind in unique):
        return ANYTHING
    return unique[0] if len(unique) == 1 else Either(unique)


def in_words(kind: Type) -> str:  # noqa: PLR0911 one return a kind
    """A kind, for a message."""
    match kind:
        case Words(options=options) if options:
            return " | ".join(repr(option) for option in sorted(options))
        case Words():
            return "string"
        case Whole(options=options) if options:
            return " | ".join(map(str, sorted(options)))
        case Either(options=kinds):
            return " | ".join(map(in_words, kinds))
        case Several(item=item):
            return f"({in_words(item)})[]"
        case Later(name=name) | Record(name=name):
            return name
        case _:
            return {Whole: "int", Flag: "bool", Nothing: "null", Anything: "any"}.get(type(kind), "object")


def misfit(given: Type, wanted: Type) -> str | None:  # noqa: PLR0911 one return a pair of kinds
    """Why a value of one kind does not fit where the other is wanted; None if it does."""
    given, wanted = now(given), now(wanted)
    match given, wanted:
        case (Anything(), _) | (_, Anything()):
            return None
        case Either(options=options), _:
            return next((fault for option in options if (fault := misfit(option, wanted))), None)
        case _, Either(options=options):
            fits = any(misfit(given, option) is None for option in options)
            return None if fits else _none_of(given, without_null(wanted))
        case Words(), Words():
            return _words(given, wanted)
        case Whole(), Whole():
            return _whole(given, wanted)
        case Flag(value=value), Flag(value=asked):
            return None if asked is None or value in (None, asked) else _not(given, wanted)
        case Several(item=item), Several(item=asked_item):
            return misfit(item, asked_item)
        case Record(), Record():
            return _record(given, wanted)
        case Record(), Tagged():
            return None  # an object whose variant is not written out is not followed
        case _:
            return None if type(given) is type(wanted) else _not(given, wanted)


def _none_of(given: Type, wanted: Type) -> str | None:
    """Why a value fits no option: of one that may be null, why it is not that one."""
    return _not(given, wanted) if isinstance(wanted, Either) else misfit(given, wanted)


def _not(given: Type, wanted: Type) -> str:
    return f"is {in_words(given)}, but {in_words(without_null(wanted))} is wanted"


def _words(given: Words, wanted: Words) -> str | None:  # noqa: PLR0911 one return a fault
    if wanted.options and given.options - wanted.options:
        return _not(given, wanted)
    if wanted.known and given.options - wanted.known:
        return f"is {in_words(given)}, but known are {in_words(Words(wanted.known))}"
    if wanted.longest is not None and given.longest is not None and given.longest > wanted.longest:
        return f"may have {given.longest} characters, but {wanted.longest} are the most"
    if given.longest is not None and given.longest < wanted.shortest:
        return f"has at most {given.longest} characters, but {wanted.shortest} are the least"
    if given.derived and given.shortest < wanted.shortest:
        return f"may have {given.shortest} characters, but {wanted.shortest} are the least (BCP334)"
    if wanted.pattern and any(not re.search(wanted.pattern, option) for option in given.options):
        return f"is {in_words(given)}, but must match {wanted.pattern}"
    return None


def _whole(given: Whole, wanted: Whole) -> str | None:
    if wanted.options and given.options - wanted.options:
        return _not(given, wanted)
    for value in given.options:
        if wanted.least is not None and value < wanted.least:
            return f"is {value}, but {wanted.least} is the least"
        if wanted.most is not None and value > wanted.most:
            return f"is {value}, but {wanted.most} is the most"
    return None


def _record(given: Record, wanted: Record) -> str | None:
    for name, found in given.fields.items():
        asked = wanted.fields.get(name) or (Field(wanted.rest) if wanted.rest else None)
        if asked is None:
            return f"has a property {name!r} that {wanted.name} does not know"
        if fault := misfit(without_null(found.type) if not asked.required else found.type, asked.type):
            return f"has a property {name!r} that {fault}"
    if given.rest is None:
        for name, asked in wanted.fields.items():
            if asked.required and not asked.read_only and name not in given.fields:
                return f"lacks the property {name!r}"
    return None
