"""Bicep's declarations and types: a file to what it declares."""

from dataclasses import dataclass

from tools.bicep_check.expressions import Expressions
from tools.bicep_check.tokens import Directive, Unreadable, tokens_of
from tools.bicep_check.tree import (
    Call,
    Condition,
    Declaration,
    ListOf,
    Name,
    Node,
    Object,
    OneOf,
    Optional,
    Property,
)


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file."""

    declarations: tuple[Declaration, ...]
    directives: tuple[Directive, ...]


def parse(source: str) -> Source:
    """A file's declarations in their order.

    Raises
    ------
    Unreadable
        Where the text is no Bicep, or not known to this reader.
    """
    tokens, directives = tokens_of(source)
    return Source(tuple(_Parser(tokens).declarations()), directives)


class _Parser(Expressions):
    def declarations(self) -> list[Declaration]:
        """All of the file."""
        found: list[Declaration] = []
        while True:
            self._lines()
            if self.now.kind == "end":
                return found
            found.append(self._declaration())
            if self.now.kind not in ("line end", "end"):
                raise self._unexpected("the end of the line")

    def _declaration(self) -> Declaration:
        decorators: list[Call] = []
        while self.now.value == "@" and self.now.kind == "symbol":
            decorators.append(self.decorator())
            if not self._lines():
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
                raise Unreadable(line, f"{keyword!r} begins no declaration known here")

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
        """Let the body of a resource nest resources too."""
        begins_resource = self.now.value in ("resource", "@") and self.peek().kind == "name"
        if begins_resource and self.peek().value != ":":
            return self._declaration()
        return super()._object_member()

    # Types.

    def type(self) -> Node:
        """A type: unions of what may be a list, optional, an object, a name or a literal."""
        line = self.now.line
        self._over_lines("|")
        options = [self._type_item()]
        while self._over_lines("|"):
            options.append(self._type_item())
        return options[0] if len(options) == 1 else OneOf(line, tuple(options))

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
                node = ListOf(line, node)
            elif self.accept("?"):
                node = Optional(line, node)
            else:
                return node

    def _object_type(self, line: int) -> Object:
        return Object(line, tuple(self.elements("}", self._type_property)))

    def _type_property(self) -> Property:
        decorators: list[Call] = []
        while self.now.value == "@":
            decorators.append(self.decorator())
            self._lines()
        if self.now.value == "*":
            raise Unreadable(self.now.line, "a type of any further properties is not known to this reader")
        found = self.property(self.type)
        return Property(found.line, found.key, found.value, found.quoted, tuple(decorators))
