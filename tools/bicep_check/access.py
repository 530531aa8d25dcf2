"""Reading a part of a value: a property or an item, and what a `.?` before it means."""

from collections.abc import Callable

from tools.bicep_check.tree import Index, Member, Node, Text
from tools.bicep_check.types import ANYTHING, Either, Record, Several, Tagged, Type, either, in_words, now

Report = Callable[[Node, str], None]


def field(node: Member, target: Type, report: Report) -> Type:
    """The kind of `target.name`; what is not there is reported."""
    match target:
        case Record(fields=fields) if node.name in fields:
            return fields[node.name].type
        case Record(rest=None, name=name):
            report(node, f"{name} has no property {node.name!r} (BCP053)")
        case Record(rest=rest) if rest is not None:
            return rest
        case Either(options=options) if all(isinstance(now(option), Record) for option in options):
            return either([field(node, now(option), report) for option in options])
        case _ if target != ANYTHING and not isinstance(target, Tagged | Either):
            report(node, f"{in_words(target)} has no property {node.name!r}")
    return ANYTHING


def item(node: Index, target: Type, report: Report) -> Type:
    """The kind of `target[index]`: an array's item, or an object's property by its name."""
    name = node.index.literal if isinstance(node.index, Text) else None
    match target:
        case Several(item=kind):
            return kind
        case Record() if name is not None:
            return field(Member(node.line, node.target, name, safe=node.safe), target, report)
        case _:
            return ANYTHING


def in_safe_chain(node: Node) -> bool:
    """Whether a `.?` or `[?` before it ends the whole chain where there is null."""
    while isinstance(node, Member | Index):
        if node.safe:
            return True
        node = node.target
    return False
