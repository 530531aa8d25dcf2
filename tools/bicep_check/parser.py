"""The parser of declarations and type expressions: turns a file into what it declares."""

from dataclasses import dataclass

from tools.bicep_check.expressions import Expressions
from tools.bicep_check.tokens import BicepSyntaxError, Directive, tokens_of
from tools.bicep_check.tree import (
    ArrayOf,
    Call,
    Condition,
    Declaration,
    Name,
    Node,
    Nullable,
    Object,
    Property,
    Union,
)


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file."""

    declarations: tuple[Declaration, ...]
    directives: tuple[Directive, ...]


def parse(source: str) -> Source:
    """Parse a file; return its declarations in their order, and its directives.

    Raises
    ------
    BicepSyntaxError
        The text is not Bicep, or is Bicep that this parser does not know.
    """
    tokens, directives = tokens_of(source)
    return Source(tuple(_Parser(tokens).declarations()), directives)


class _Parser(Expressions):
    def declarations(self) -> list[Declaration]:
        """Parse all declarations of the file."""
        found: list[Declaration] = []
        while True:
            self._skip_line_ends()
            if self.now.kind == "end":
                return found
            found.append(self._declaration())
            if self.now.kind not in ("line end", "end"):
                raise self._unexpected("the end of the line")

    def _declaration(self) -> Declaration:
        decorators: list[Call] = []
        while self.now.value == "@" and self.now.kind == "symbol":
            decorators.append(self.decorator())
            if not self._skip_line_ends():
                raise self._unexpected("the end of the line")
        return self._statement(tuple(decorators))

    def _statement(self, decorators: tuple[Call, ...]) -> Declaration:
        line, keyword = self.now.line, self.identifier()
        match keyword:
            case "param" | "output":
                return self._typed(line, keyword, decorators)
            case "var" | "metadata":
                name = self.identifier()
                type_ = None if self.now.value == "=" else self.type()
                self.expect("=")
                return Declaration(line, keyword, name, decorators, type_, self.expression())
            case "type":
                name = self.identifier()
                self.expect("=")
                return Declaration(line, keyword, name, decorators, self.type())
            case "resource" | "module":
                return self._deployed(line, keyword, decorators)
            case "targetScope":
                self.expect("=")
                return Declaration(line, keyword, "targetScope", value=self.expression())
            case "using":
                return Declaration(line, keyword, "using", path="" if self.accept("none") else self.literal())
            case _:
                raise BicepSyntaxError(line, f"{keyword!r} begins no declaration that this parser knows")

    def _typed(self, line: int, keyword: str, decorators: tuple[Call, ...]) -> Declaration:
        name = self.identifier()
        has_type = self.now.value != "=" and self.now.kind not in ("line end", "end")
        type_ = self.type() if has_type else None
        value = self.expression() if self.accept("=") else None
        return Declaration(line, keyword, name, decorators, type_, value)

    def _deployed(self, line: int, keyword: str, decorators: tuple[Call, ...]) -> Declaration:
        name = self.identifier()
        path = self.literal()
        existing = keyword == "resource" and self.accept("existing")
        self.expect("=")
        value = self.loop_body()
        return Declaration(line, keyword, name, decorators, None, value, path, existing)

    def loop_body(self) -> Node:
        if self.now.value == "if" and self.now.kind == "name":
            line = self.take().line
            self.expect("(")
            condition = self.expression()
            self.expect(")")
            return Condition(line, condition, self.expression())
        return self.expression()

    def _object_member(self) -> Node:
        """Parse a property, or a resource nested in the body of a resource."""
        begins_resource = self.now.value in ("resource", "@") and self.peek().kind == "name"
        if begins_resource and self.peek().value != ":":
            return self._declaration()
        return super()._object_member()

    def type(self) -> Node:
        """Parse a type: a union of arrays, nullable types, objects, names and literals."""
        line = self.now.line
        self._accept_over_lines("|")
        options = [self._type_item()]
        while self._accept_over_lines("|"):
            options.append(self._type_item())
        return options[0] if len(options) == 1 else Union(line, tuple(options))

    def _type_item(self) -> Node:
        line = self.now.line
        if self.accept("("):
            node = self.type()
            self.expect(")")
        elif self.accept("{"):
            node = self._object_type(line)
        elif self.now.kind == "name" and self.now.value not in ("true", "false", "null"):
            node = Name(line, self.identifier())
        else:
            node = self._unary()
        while True:
            if self.now.value == "[" and self.peek().value == "]":
                self.take(), self.take()
                node = ArrayOf(line, node)
            elif self.accept("?"):
                node = Nullable(line, node)
            else:
                return node

    def _object_type(self, line: int) -> Object:
        return Object(line, tuple(self.elements("}", self._type_property)))

    def _type_property(self) -> Property:
        decorators: list[Call] = []
        while self.now.value == "@":
            decorators.append(self.decorator())
            self._skip_line_ends()
        if self.now.value == "*":
            raise BicepSyntaxError(self.now.line, "this parser does not know a type with additional properties (`*:`)")
        found = self.property(self.type)
        return Property(found.line, found.key, found.value, found.quoted, tuple(decorators))
