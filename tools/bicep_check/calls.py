"""The kind that a call of one of Bicep's functions gives."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tools.bicep_check.functions import FUNCTIONS, SECRET_READERS
from tools.bicep_check.tree import Call, Lambda, Name, Node, Number
from tools.bicep_check.types import (
    ANYTHING,
    Either,
    Field,
    Record,
    Several,
    Type,
    Words,
    either,
    joined,
    now,
    widest,
    without_null,
)

if TYPE_CHECKING:
    from tools.bicep_check.inference import Scope


def call_kind(scope: "Scope", node: Call) -> Type:
    """The kind of a call's result; unknown functions, wrong counts of arguments and reads of secrets are reported."""
    if node.function in SECRET_READERS:
        scope.report(node, f"{node.function}() reads a secret: use the identity instead")
        return ANYTHING
    if node.target is not None and not (isinstance(node.target, Name) and node.target.name in ("az", "sys")):
        scope.kind(node.target)
        scope.report(node, f"there is no method {node.function!r}")
        return ANYTHING
    function = FUNCTIONS.get(node.function)
    if function is None:
        scope.report(node, f"there is no function {node.function!r} (BCP057)")
        return ANYTHING
    if not function.least <= len(node.arguments) <= function.most:
        count = f"{function.least} to {function.most}" if function.least != function.most else str(function.least)
        scope.report(node, f"{node.function}() takes {count} arguments, not {len(node.arguments)} (BCP071)")
        return function.result
    _notice(scope, node)
    given = _arguments(scope, node)
    special = _SPECIAL.get(node.function)
    return special(node, given) if special else function.result


def _notice(scope: "Scope", node: Call) -> None:
    if node.function == "resourceGroup" and not node.arguments and scope.template.scope == "subscription":
        scope.report(node, "resourceGroup() has no meaning at the scope of a subscription")
    if node.function in ("utcNow", "newGuid"):
        scope.report(node, f"{node.function}() differs at each deployment")
    if node.function.startswith("load"):
        path = getattr(node.arguments[0], "literal", None)
        if path is None or scope.program.resolve(scope.template.path, path) not in scope.program.texts:
            scope.report(node, f"{node.function}() reads a file that is not there: {path} (BCP091)")


def _arguments(scope: "Scope", node: Call) -> list[Type]:
    first = scope.kind(node.arguments[0]) if node.arguments else ANYTHING
    return [first, *(_argument(scope, argument, first) for argument in node.arguments[1:])]


def _argument(scope: "Scope", argument: Node, first: Type) -> Type:
    if not isinstance(argument, Lambda):
        return scope.kind(argument)
    source = now(first)
    item: Type = source.item if isinstance(source, Several) and len(argument.parameters) == 1 else ANYTHING
    return scope.inside(**dict.fromkeys(argument.parameters, item)).kind(argument.body)


def _words(kind: Type) -> Words:
    match now(kind):
        case Words() as words:
            return words
        case Either(options=options):
            return widest(option for option in options if isinstance(option, Words))
        case _:
            return Words()


def _take(node: Call, given: list[Type]) -> Type:
    if not isinstance(now(given[0]), Words | Either):
        return now(given[0])
    words, count = _words(given[0]), node.arguments[1]
    if not isinstance(count, Number):
        return Words(longest=words.longest)
    longest = count.value if words.longest is None else min(count.value, words.longest)
    return Words(shortest=min(words.shortest, count.value), longest=longest, derived=True)


def _same_length(node: Call, given: list[Type]) -> Type:
    words = _words(given[0])
    change = str.lower if node.function == "toLower" else str.upper
    return Words(frozenset(map(change, words.options)), words.shortest, words.longest)


def _replace(_node: Call, given: list[Type]) -> Type:
    words, old, new = map(_words, given)
    shrinks = new.longest is not None and new.longest <= old.shortest
    return Words(longest=words.longest if shrinks else None)


def _concat(_node: Call, given: list[Type]) -> Type:
    if all(isinstance(now(kind), Several) for kind in given):
        return Several(either(kind.item for kind in map(now, given) if isinstance(kind, Several)))
    return joined(map(_words, given))


def _union(_node: Call, given: list[Type]) -> Type:
    kinds = [now(kind) for kind in given]
    if all(isinstance(kind, Several) for kind in kinds):
        return Several(either(kind.item for kind in kinds if isinstance(kind, Several)))
    options = [option for kind in kinds for option in (kind.options if isinstance(kind, Either) else (kind,))]
    records = [record for record in map(now, options) if isinstance(record, Record)]
    if len(records) < len(options):
        return ANYTHING
    fields = {name: field for record in records for name, field in record.fields.items()}
    closed = len(options) == len(given) and all(record.rest is None for record in records)
    return Record(fields, None if closed else ANYTHING)


def _items(_node: Call, given: list[Type]) -> Type:
    return Several(Record({"key": Field(Words()), "value": Field(_values(now(given[0])))}))


def _values(source: Type) -> Type:
    if not isinstance(source, Record):
        return ANYTHING
    if source.rest is None and source.fields:
        return either(field.type for field in source.fields.values())
    return ANYTHING if source.fields else source.rest or ANYTHING


def _element(_node: Call, given: list[Type]) -> Type:
    source = now(given[0])
    return source.item if isinstance(source, Several) else ANYTHING


_SPECIAL: Mapping[str, Callable[[Call, list[Type]], Type]] = {
    "take": _take,
    "toLower": _same_length,
    "toUpper": _same_length,
    "replace": _replace,
    "concat": _concat,
    "union": _union,
    "items": _items,
    "first": _element,
    "last": _element,
    "map": lambda _node, given: Several(given[1]),
    "filter": lambda _node, given: now(given[0]),
    "coalesce": lambda _node, given: either((*map(without_null, given[:-1]), given[-1])),
}
