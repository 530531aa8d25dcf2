"""The type of an expression, as far as it can be known without a deployment; faults in expressions are reported."""

from collections.abc import Mapping

from tools.bicep_check.declared_types import KNOWN_AT_START, known_type, module_type, resource_type
from tools.bicep_check.function_calls import call_type
from tools.bicep_check.program import Program, Template
from tools.bicep_check.property_access import Report, in_safe_chain, item_type, property_type
from tools.bicep_check.tree import (
    Array,
    ArrayAccess,
    Binary,
    Boolean,
    Call,
    Condition,
    Declaration,
    Integer,
    Loop,
    Name,
    Node,
    Null,
    Object,
    PropertyAccess,
    Spread,
    String,
    Ternary,
    Unary,
)
from tools.bicep_check.value_types import (
    ANY,
    AnyType,
    ArrayType,
    BooleanType,
    Field,
    IntegerType,
    NullType,
    ObjectType,
    StringType,
    Type,
    UnionType,
    concatenated,
    describe,
    may_be_null,
    resolved,
    string_literal,
    union,
    widest,
    without_null,
)

_NAMESPACES = frozenset({"az", "sys"})


class Scope:
    """Resolves the names in an expression: a template's symbols, and the variables of loops and lambdas.

    Parameters
    ----------
    program, template
        The files, and the file that holds the expression.
    report
        Called with the node and the message of each fault.
    variables
        The types of the variables of the loops and lambdas around the expression.
    """

    def __init__(
        self, program: Program, template: Template, report: Report, variables: Mapping[str, Type] | None = None
    ) -> None:
        self.program = program
        self.template = template
        self.report = report
        self.variables = variables or {}

    def inside(self, **variables: Type) -> "Scope":
        """Return the scope inside a loop or lambda that has these variables."""
        return Scope(self.program, self.template, self.report, {**self.variables, **variables})

    def silent(self) -> "Scope":
        """Return the same scope without reports, for an expression whose faults were already reported."""
        return self.reporting(lambda _node, _message: None)

    def reporting(self, report: Report) -> "Scope":
        """Return the same scope with another receiver of reports."""
        return Scope(self.program, self.template, report, self.variables)

    def declared(self, name: str) -> Declaration | None:
        """Return the file's symbol of that name, unless a variable of a loop or lambda hides it."""
        return None if name in self.variables else self.template.symbols.get(name)

    def type_of(self, node: Node) -> Type:  # noqa: PLR0911 one return a sort of expression
        """Return the type of an expression."""
        match node:
            case String():
                return self._string(node)
            case Integer(value=value):
                return IntegerType(frozenset({value}))
            case Boolean(value=flag):
                return BooleanType(flag)
            case Null():
                return NullType()
            case Name():
                return self._name(node)
            case PropertyAccess():
                return self._property(node)
            case ArrayAccess():
                return self._item(node)
            case Call():
                return call_type(self, node)
            case _:
                return self._composed(node)

    def _composed(self, node: Node) -> Type:  # noqa: C901, PLR0911 one return a sort of expression
        match node:
            case Object():
                return self._object(node)
            case Array(items=items):
                return ArrayType(union([self.type_of(found) for found in items]) if items else ANY)
            case Spread(value=value):
                spread = resolved(self.type_of(value))
                return spread.item if isinstance(spread, ArrayType) else ANY
            case Ternary(condition=condition, yes=yes, no=no):
                self.expect_boolean(condition)
                return union((self.type_of(yes), self.type_of(no)))
            case Binary():
                return self._binary(node)
            case Unary(operator="null!", operand=operand):
                return without_null(self.type_of(operand))
            case Unary(operator="!", operand=operand):
                self.expect_boolean(operand)
                return BooleanType()
            case Unary(operand=operand):
                self.type_of(operand)
                return IntegerType()
            case Loop():
                return ArrayType(self.of_loop(node).type_of(node.body))
            case Condition(condition=condition, body=body):
                self.expect_boolean(condition)
                return self.type_of(body)
            case _:
                return ANY

    def of_loop(self, loop: Loop) -> "Scope":
        """Return the scope of a loop's body."""
        source = without_null(self.type_of(loop.source))
        if not isinstance(source, ArrayType) and source != ANY:
            self.report(loop, f"a loop needs an array, not {describe(source)}")
        inside = {loop.item: source.item if isinstance(source, ArrayType) else ANY}
        return self.inside(**inside, **({loop.index: IntegerType()} if loop.index else {}))

    def expect_boolean(self, node: Node) -> None:
        """Report a condition that is not a boolean."""
        type_ = resolved(self.type_of(node))
        if not isinstance(type_, BooleanType) and type_ != ANY:
            self.report(node, f"a condition must be bool, not {describe(type_)}")

    def _string(self, node: String) -> Type:
        if node.literal is not None:
            return string_literal(node.literal)
        return concatenated(
            string_literal(piece) if isinstance(piece, str) else self._piece(piece) for piece in node.pieces
        )

    def _piece(self, node: Node) -> StringType:
        type_ = self.type_of(node)
        if may_be_null(type_):
            self.report(node, "may be null inside a string")
        match without_null(type_):
            case StringType() as string:
                return string
            case UnionType(options=options):
                return widest(option for option in options if isinstance(option, StringType))
            case _:
                return StringType()

    def _name(self, node: Name) -> Type:
        if node.name in self.variables:
            return self.variables[node.name]
        declared = self.template.symbols.get(node.name)
        match declared.keyword if declared else None:
            case "param" if declared:
                return known_type(declared, self.template)
            case "var" if declared and declared.value:
                return Scope(self.program, self.template, lambda _node, _message: None).type_of(declared.value)
            case "resource" if declared:
                return resource_type(declared, self.template)
            case "module" if declared:
                return module_type(declared, self.program, self.template)
            case _:
                if node.name not in _NAMESPACES:
                    self.report(node, f"{node.name!r} is not declared (BCP057)")
                return ANY

    def _property(self, node: PropertyAccess) -> Type:
        if node.nested:
            return self._name(Name(node.line, node.name))
        target = self.type_of(node.target)
        known_at_start = node.name in KNOWN_AT_START and self._is_resource(node.target)
        safe = node.safe or in_safe_chain(node.target)
        if may_be_null(target) and not safe and not known_at_start:
            self.report(node, f"{node.name!r} is read from a value that may be null: use .? or ! (BCP318)")
        type_ = property_type(node, without_null(target), self.report)
        return union((type_, NullType())) if safe and may_be_null(target) else type_

    def _is_resource(self, node: Node) -> bool:
        while isinstance(node, ArrayAccess):
            node = node.target
        declared = self.declared(node.name) if isinstance(node, Name) else None
        return declared is not None and declared.keyword == "resource"

    def _item(self, node: ArrayAccess) -> Type:
        self.type_of(node.index)
        return item_type(node, without_null(self.type_of(node.target)), self.report)

    def _object(self, node: Object) -> Type:
        fields = {}
        open_ended = bool(node.spreads)
        for found in node.properties:
            type_ = self.type_of(found.value)
            self._string(found.key)
            if found.key.literal is None:
                open_ended = True
            else:
                fields[found.key.literal] = Field(type_, required=True)
        for spread in node.spreads:
            self.type_of(spread.value)
        return ObjectType(fields, ANY if open_ended else None)

    def _binary(self, node: Binary) -> Type:
        left, right = self.type_of(node.left), self.type_of(node.right)
        match node.operator:
            case "??":
                return union((without_null(left), right))
            case "&&" | "||":
                self.expect_boolean(node.left)
                self.expect_boolean(node.right)
                return BooleanType()
            case "+" | "-" | "*" | "/" | "%":
                if not all(isinstance(resolved(type_), IntegerType | AnyType) for type_ in (left, right)):
                    self.report(node, f"{node.operator!r} takes integers only: build strings with ${{}}")
                return IntegerType()
            case _:
                return BooleanType()
