"""Checks that an expression can be assigned where it stands.

Objects, arrays and branches that are written out are followed into their parts, so that a message names the line of the
part. Any other expression is compared by its type.
"""

from dataclasses import dataclass

from tools.bicep_check.inference import Scope
from tools.bicep_check.property_access import Report
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
from tools.bicep_check.value_types import (
    ANY,
    ArrayType,
    DiscriminatedType,
    Field,
    ObjectType,
    Type,
    UnionType,
    mismatch,
    nullable,
    resolved,
    without_null,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One of the objects that make up a whole, such as an argument of union(); it may be absent if `sure` is false."""

    node: Object
    sure: bool


def check_assignment(scope: Scope, node: Node, expected: Type, place: str) -> None:
    """Report each part of an expression that does not fit.

    Parameters
    ----------
    scope
        Resolves the names in the expression, and receives the reports.
    node
        The expression.
    expected
        The type that is expected there.
    place
        The path that a message begins with, such as `app.properties.siteConfig`.
    """
    expected = resolved(expected)
    match node:
        case Condition(body=body):
            check_assignment(scope, body, expected, place)
        case Ternary(yes=yes, no=no):
            check_assignment(scope, yes, expected, place)
            check_assignment(scope, no, expected, place)
        case Binary(operator="??", left=left, right=right) if not isinstance(left, Object):
            _by_type(scope, node, expected, place)
            check_assignment(scope, right, expected, place)
        case Name(name=name) if (declared := scope.declared(name)) and declared.keyword == "var" and declared.value:
            of_file = Scope(scope.program, scope.template, scope.report)
            check_assignment(of_file, declared.value, expected, place)
        case Loop() if isinstance(without_null(expected), ArrayType):
            inside = scope.silent().of_loop(node).reporting(scope.report)
            check_assignment(inside, node.body, _item_of(expected), f"{place}[]")
        case Array(items=items) if isinstance(without_null(expected), ArrayType):
            for position, item in enumerate(items):
                if not isinstance(item, Spread):
                    check_assignment(scope, item, _item_of(expected), f"{place}[{position}]")
        case _ if parts := _parts(scope, node):
            _object(scope, parts, without_null(expected), place)
        case _:
            _by_type(scope, node, expected, place)


def _item_of(expected: Type) -> Type:
    array = without_null(expected)
    return array.item if isinstance(array, ArrayType) else ANY


def _by_type(scope: Scope, node: Node, expected: Type, place: str) -> None:
    if fault := mismatch(scope.silent().type_of(node), expected):
        scope.report(node, f"{place} {fault}")


def _parts(scope: Scope, node: Node, *, sure: bool = True) -> tuple[Part, ...]:
    """Return the objects that make up an expression; none if any of them is not written out."""
    match node:
        case Object():
            return (Part(node, sure), *_spread_parts(scope, node, sure=sure))
        case Call(function="union", arguments=arguments):
            parts = [_parts(scope, argument, sure=sure) for argument in arguments]
            return tuple(part for found in parts for part in found) if all(parts) else ()
        case Ternary(yes=yes, no=no):
            branches = _parts(scope, yes, sure=False), _parts(scope, no, sure=False)
            return branches[0] + branches[1] if all(branches) else ()
        case Name(name=name) if (declared := scope.declared(name)) and declared.keyword == "var" and declared.value:
            return _parts(scope, declared.value, sure=sure)
        case _:
            return ()


def _spread_parts(scope: Scope, node: Object, *, sure: bool) -> tuple[Part, ...]:
    return tuple(part for spread in node.spreads for part in _parts(scope, spread.value, sure=sure))


def _object(scope: Scope, parts: tuple[Part, ...], expected: Type, place: str) -> None:
    first = parts[0].node
    match expected:
        case ObjectType():
            for part in parts:
                for found in part.node.properties:
                    _property(scope, found, expected, place)
            _missing(scope, parts, expected, place)
        case DiscriminatedType(discriminator=key, variants=variants):
            tag = next((part.node.get(key) for part in parts if part.node.get(key)), None)
            name = getattr(tag, "literal", None)
            if name is None:
                scope.report(first, f"{place} lacks the property {key!r}, which selects its type")
            elif name not in variants:
                scope.report(tag or first, f"{place}.{key} is {name!r}, but one of {sorted(variants)} is expected")
            else:
                _object(scope, parts, resolved(variants[name]), place)
        case UnionType(options=options):
            _closest(scope, parts, options, place)
        case _ if expected != ANY:
            _by_type(scope, first, expected, place)


def _closest(scope: Scope, parts: tuple[Part, ...], options: tuple[Type, ...], place: str) -> None:
    """Report an object's faults against the option for which it has the fewest."""
    attempts: list[list[tuple[Node, str]]] = []
    for option in options:
        found: list[tuple[Node, str]] = []
        _object(scope.reporting(_into(found)), parts, resolved(option), place)
        attempts.append(found)
    for node, message in min(attempts, key=len):
        scope.report(node, message)


def _into(found: list[tuple[Node, str]]) -> Report:
    return lambda node, message: found.append((node, message))


def _property(scope: Scope, found: Property, expected: ObjectType, place: str) -> None:
    key = found.key.literal
    if key is None:
        if expected.additional is not None:
            check_assignment(scope, found.value, expected.additional, f"{place}.*")
        return
    field = expected.fields.get(key)
    if field is None and expected.additional is None:
        scope.report(found, f"{place} has a property {key!r} that {expected.name} does not have (BCP037)")
    elif field is not None and field.read_only:
        scope.report(found, f"{place}.{key} is read-only (BCP073)")
    else:
        field = field or Field(expected.additional or ANY)
        type_ = field.type if field.required else nullable(field.type)
        check_assignment(scope, found.value, type_, f"{place}.{key}")


def _missing(scope: Scope, parts: tuple[Part, ...], expected: ObjectType, place: str) -> None:
    """Report required properties that are absent.

    A spread or a computed key that is not written out may hold any property: then nothing is reported.
    """
    sure = [part.node for part in parts if part.sure]
    present = {found.key.literal for node in sure for found in node.properties}
    opaque = any(
        any(found.key.literal is None for found in node.properties)
        or any(not _parts(scope, spread.value) for spread in node.spreads)
        for node in sure
    )
    if opaque:
        return
    for name, field in expected.fields.items():
        if field.required and not field.read_only and name not in present:
            scope.report(parts[0].node, f"{place} lacks the property {name!r} (BCP035)")
