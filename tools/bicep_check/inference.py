"""The kind of an expression, as far as it can be told without running it; what cannot be read is a finding."""

from collections.abc import Mapping

from tools.bicep_check.access import Report, field, in_safe_chain, item
from tools.bicep_check.calls import call_kind
from tools.bicep_check.declared import UnknownType, module_value, param_type, resource_value
from tools.bicep_check.program import Program, Template
from tools.bicep_check.tree import (
    Array,
    Binary,
    Call,
    Condition,
    Declaration,
    Index,
    Loop,
    Member,
    Name,
    Node,
    Null,
    Number,
    Object,
    Spread,
    Ternary,
    Text,
    Truth,
    Unary,
)
from tools.bicep_check.types import (
    ANYTHING,
    Either,
    Field,
    Flag,
    Nothing,
    Record,
    Several,
    Type,
    Whole,
    Words,
    either,
    in_words,
    joined,
    literal,
    may_be_null,
    now,
    widest,
    without_null,
)

_STARTS_KNOWN = frozenset({"id", "name", "type", "apiVersion"})
_NAMESPACES = frozenset({"az", "sys"})


class Scope:
    """Where names are looked up: a template's symbols, and the items of loops and lambdas around an expression."""

    def __init__(
        self, program: Program, template: Template, report: Report, items: Mapping[str, Type] | None = None
    ) -> None:
        self.program = program
        self.template = template
        self.report = report
        self.items = items or {}

    def inside(self, **items: Type) -> "Scope":
        """The scope in a loop or lambda."""
        return Scope(self.program, self.template, self.report, {**self.items, **items})

    def silent(self) -> "Scope":
        """The same scope, where another has already reported what is wrong."""
        return self.reporting(lambda _node, _message: None)

    def reporting(self, report: Report) -> "Scope":
        """The same scope, with its reports going elsewhere."""
        return Scope(self.program, self.template, report, self.items)

    def declared(self, name: str) -> Declaration | None:
        """A symbol of the file, unless a loop's item hides it."""
        return None if name in self.items else self.template.symbols.get(name)

    def kind(self, node: Node) -> Type:  # noqa: PLR0911 one return a kind of expression
        """The kind of an expression."""
        match node:
            case Text():
                return self._text(node)
            case Number(value=value):
                return Whole(frozenset({value}))
            case Truth(value=flag):
                return Flag(flag)
            case Null():
                return Nothing()
            case Name():
                return self._name(node)
            case Member():
                return self._member(node)
            case Index():
                return self._index(node)
            case Call():
                return call_kind(self, node)
            case _:
                return self._composed(node)

    def _composed(self, node: Node) -> Type:  # noqa: C901, PLR0911 one return a kind of expression
        match node:
            case Object():
                return self._object(node)
            case Array(items=items):
                return Several(either([self.kind(found) for found in items]) if items else ANYTHING)
            case Spread(value=value):
                spread = now(self.kind(value))
                return spread.item if isinstance(spread, Several) else ANYTHING
            case Ternary(condition=condition, yes=yes, no=no):
                self.expect_flag(condition)
                return either((self.kind(yes), self.kind(no)))
            case Binary():
                return self._binary(node)
            case Unary(operator="null!", operand=operand):
                return without_null(self.kind(operand))
            case Unary(operator="!", operand=operand):
                self.expect_flag(operand)
                return Flag()
            case Unary(operand=operand):
                self.kind(operand)
                return Whole()
            case Loop():
                return Several(self.of_loop(node).kind(node.body))
            case Condition(condition=condition, body=body):
                self.expect_flag(condition)
                return self.kind(body)
            case _:
                return ANYTHING

    def of_loop(self, loop: Loop) -> "Scope":
        """The scope of a loop's body."""
        source = without_null(self.kind(loop.source))
        if not isinstance(source, Several) and source != ANYTHING:
            self.report(loop, f"a loop runs over an array, not over {in_words(source)}")
        inside = {loop.item: source.item if isinstance(source, Several) else ANYTHING}
        return self.inside(**inside, **({loop.index: Whole()} if loop.index else {}))

    def expect_flag(self, node: Node) -> None:
        """Report a condition that is no boolean."""
        kind = now(self.kind(node))
        if not isinstance(kind, Flag) and kind != ANYTHING:
            self.report(node, f"a condition is bool, not {in_words(kind)}")

    def _text(self, node: Text) -> Type:
        if node.literal is not None:
            return literal(node.literal)
        return joined(literal(piece) if isinstance(piece, str) else self._piece(piece) for piece in node.pieces)

    def _piece(self, node: Node) -> Words:
        kind = self.kind(node)
        if may_be_null(kind):
            self.report(node, "may be null inside a string")
        match without_null(kind):
            case Words() as words:
                return words
            case Either(options=options):
                return widest(option for option in options if isinstance(option, Words))
            case _:
                return Words()

    def _name(self, node: Name) -> Type:
        if node.name in self.items:
            return self.items[node.name]
        declared = self.template.symbols.get(node.name)
        match declared.keyword if declared else None:
            case "param" if declared:
                return self._declared(declared)
            case "var" if declared and declared.value:
                return Scope(self.program, self.template, lambda _node, _message: None).kind(declared.value)
            case "resource" if declared:
                return resource_value(declared, self.template)
            case "module" if declared:
                return module_value(declared, self.program, self.template)
            case _:
                if node.name not in _NAMESPACES:
                    self.report(node, f"{node.name!r} is not declared (BCP057)")
                return ANYTHING

    def _declared(self, declared: Declaration) -> Type:
        try:
            return param_type(declared, self.template)
        except UnknownType:  # reported where it is declared
            return ANYTHING

    def _member(self, node: Member) -> Type:
        if node.nested:
            return self._name(Name(node.line, node.name))
        target = self.kind(node.target)
        known_at_start = node.name in _STARTS_KNOWN and self._is_resource(node.target)
        safe = node.safe or in_safe_chain(node.target)
        if may_be_null(target) and not safe and not known_at_start:
            self.report(node, f"{node.name!r} is read from what may be null: use .? or ! (BCP318)")
        kind = field(node, without_null(target), self.report)
        return either((kind, Nothing())) if safe and may_be_null(target) else kind

    def _is_resource(self, node: Node) -> bool:
        while isinstance(node, Index):
            node = node.target
        declared = self.declared(node.name) if isinstance(node, Name) else None
        return declared is not None and declared.keyword == "resource"

    def _index(self, node: Index) -> Type:
        self.kind(node.index)
        return item(node, without_null(self.kind(node.target)), self.report)

    def _object(self, node: Object) -> Type:
        fields = {}
        open_ended = bool(node.spreads)
        for found in node.properties:
            kind = self.kind(found.value)
            self._text(found.key)
            if found.key.literal is None:
                open_ended = True
            else:
                fields[found.key.literal] = Field(kind, required=True)
        for spread in node.spreads:
            self.kind(spread.value)
        return Record(fields, ANYTHING if open_ended else None)

    def _binary(self, node: Binary) -> Type:
        left, right = self.kind(node.left), self.kind(node.right)
        match node.operator:
            case "??":
                return either((without_null(left), right))
            case "&&" | "||":
                self.expect_flag(node.left)
                self.expect_flag(node.right)
                return Flag()
            case "+" | "-" | "*" | "/" | "%":
                if not all(isinstance(now(kind), Whole | type(ANYTHING)) for kind in (left, right)):
                    self.report(node, f"{node.operator!r} works on integers alone: put text together with ${{}}")
                return Whole()
            case _:
                return Flag()
