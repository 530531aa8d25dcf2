"""Whether an expression fits where it stands: literals are followed into their parts, the rest goes by its kind."""

from dataclasses import dataclass

from tools.bicep_check.access import Report
from tools.bicep_check.inference import Scope
from tools.bicep_check.tree import (
    Array,
    Binary,
    Call,
    Condition,
    Loop,
    Name,
    Node,
    Object,
    Property,
    Spread,
    Ternary,
)
from tools.bicep_check.types import (
    ANYTHING,
    Either,
    Field,
    Record,
    Several,
    Tagged,
    Type,
    misfit,
    now,
    nullable,
    without_null,
)


@dataclass(frozen=True, slots=True)
class Part:
    """An object that is a part of the whole: the arguments of union() are, and may be missing if `sure` is false."""

    node: Object
    sure: bool


def conform(scope: Scope, node: Node, wanted: Type, place: str) -> None:
    """Report what does not fit in an expression that stands at `place`, where `wanted` is asked for."""
    wanted = now(wanted)
    match node:
        case Condition(body=body):
            conform(scope, body, wanted, place)
        case Ternary(yes=yes, no=no):
            conform(scope, yes, wanted, place)
            conform(scope, no, wanted, place)
        case Binary(operator="??", left=left, right=right) if not isinstance(left, Object):
            _by_kind(scope, node, wanted, place)
            conform(scope, right, wanted, place)
        case Name(name=name) if (declared := scope.declared(name)) and declared.keyword == "var" and declared.value:
            conform(Scope(scope.program, scope.template, scope.report), declared.value, wanted, place)
        case Loop() if isinstance(without_null(wanted), Several):
            conform(scope.silent().of_loop(node).reporting(scope.report), node.body, _item(wanted), f"{place}[]")
        case Array(items=items) if isinstance(without_null(wanted), Several):
            for at, item in enumerate(items):
                if not isinstance(item, Spread):
                    conform(scope, item, _item(wanted), f"{place}[{at}]")
        case _ if parts := _parts(scope, node):
            _object(scope, parts, without_null(wanted), place)
        case _:
            _by_kind(scope, node, wanted, place)


def _item(wanted: Type) -> Type:
    several = without_null(wanted)
    return several.item if isinstance(several, Several) else ANYTHING


def _by_kind(scope: Scope, node: Node, wanted: Type, place: str) -> None:
    if fault := misfit(scope.silent().kind(node), wanted):
        scope.report(node, f"{place} {fault}")


def _parts(scope: Scope, node: Node, *, sure: bool = True) -> tuple[Part, ...]:
    """The objects that make up an expression, if it is written out; none if it is not."""
    match node:
        case Object():
            return (Part(node, sure), *_spread(scope, node, sure=sure))
        case Call(function="union", arguments=arguments):
            parts = [_parts(scope, argument, sure=sure) for argument in arguments]
            return tuple(part for found in parts for part in found) if all(parts) else ()
        case Ternary(yes=yes, no=no):
            either_way = _parts(scope, yes, sure=False), _parts(scope, no, sure=False)
            return either_way[0] + either_way[1] if all(either_way) else ()
        case Name(name=name) if (declared := scope.declared(name)) and declared.keyword == "var" and declared.value:
            return _parts(scope, declared.value, sure=sure)
        case _:
            return ()


def _spread(scope: Scope, node: Object, *, sure: bool) -> tuple[Part, ...]:
    return tuple(part for spread in node.spreads for part in _parts(scope, spread.value, sure=sure))


def _object(scope: Scope, parts: tuple[Part, ...], wanted: Type, place: str) -> None:
    first = parts[0].node
    match wanted:
        case Record():
            for part in parts:
                for found in part.node.properties:
                    _property(scope, found, wanted, place)
            _missing(scope, parts, wanted, place)
        case Tagged(key=key, variants=variants):
            tag = next((part.node.get(key) for part in parts if part.node.get(key)), None)
            name = getattr(tag, "literal", None)
            if name is None:
                scope.report(first, f"{place} lacks the property {key!r} that says what it is")
            elif name not in variants:
                scope.report(tag or first, f"{place}.{key} is {name!r}, but one of {sorted(variants)} is wanted")
            else:
                _object(scope, parts, now(variants[name]), place)
        case Either(options=options):
            _best(scope, parts, options, place)
        case _ if wanted != ANYTHING:
            _by_kind(scope, first, wanted, place)


def _best(scope: Scope, parts: tuple[Part, ...], options: tuple[Type, ...], place: str) -> None:
    """Hold an object to the one option that it fits best."""
    attempts: list[list[tuple[Node, str]]] = []
    for option in options:
        found: list[tuple[Node, str]] = []
        _object(scope.reporting(_into(found)), parts, now(option), place)
        attempts.append(found)
    for node, message in min(attempts, key=len):
        scope.report(node, message)


def _into(found: list[tuple[Node, str]]) -> Report:
    return lambda node, message: found.append((node, message))


def _property(scope: Scope, found: Property, wanted: Record, place: str) -> None:
    key = found.key.literal
    if key is None:
        if wanted.rest is not None:
            conform(scope, found.value, wanted.rest, f"{place}.*")
        return
    asked = wanted.fields.get(key)
    if asked is None and wanted.rest is None:
        scope.report(found, f"{place} has a property {key!r} that {wanted.name} does not know (BCP037)")
    elif asked is not None and asked.read_only:
        scope.report(found, f"{place}.{key} is read-only (BCP073)")
    else:
        asked = asked or Field(wanted.rest or ANYTHING)
        conform(scope, found.value, asked.type if asked.required else nullable(asked.type), f"{place}.{key}")


def _missing(scope: Scope, parts: tuple[Part, ...], wanted: Record, place: str) -> None:
    """Report what is required and not surely there. A spread or a computed key that is not written out may hold it."""
    sure = [part.node for part in parts if part.sure]
    known = {found.key.literal for node in sure for found in node.properties}
    opaque = any(
        any(found.key.literal is None for found in node.properties)
        or any(not _parts(scope, spread.value) for spread in node.spreads)
        for node in sure
    )
    if opaque:
        return
    for name, asked in wanted.fields.items():
        if asked.required and not asked.read_only and name not in known:
            scope.report(parts[0].node, f"{place} lacks the property {name!r} (BCP035)")
