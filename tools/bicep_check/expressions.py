"""Bicep's expressions, by recursive descent. Line ends count, as they do for the compiler."""

from collections.abc import Callable

from tools.bicep_check.cursor import Cursor
from tools.bicep_check.tokens import Token, Unreadable
from tools.bicep_check.tree import (
    Array,
    Binary,
    Call,
    Declaration,
    Index,
    Lambda,
    Loop,
    Member,
    Name,
    Node,
    Null,
    Number,
    Object,
    Property,
    Spread,
    Ternary,
    Text,
    Truth,
    Unary,
)

_LEVELS = (("??",), ("||",), ("&&",), ("==", "!=", "=~", "!~"), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
_WORDS: dict[str, Callable[[int], Node]] = {
    "true": lambda line: Truth(line, value=True),
    "false": lambda line: Truth(line, value=False),
    "null": Null,
}


class Expressions(Cursor):
    """Reads expressions from tokens."""

    def expression(self) -> Node:
        """The next expression; a ternary may put `?` and `:` on lines of their own."""
        condition = self._binary(0)
        if not self._over_lines("?"):
            return condition
        self._lines()
        yes = self.expression()
        if not self._over_lines(":"):
            raise self._unexpected("a ':' of a ternary")
        self._lines()
        return Ternary(condition.line, condition, yes, self.expression())

    def literal(self) -> str:
        """Consume a string without holes."""
        text = self._primary()
        if not isinstance(text, Text) or text.literal is None:
            raise Unreadable(text.line, "expected a string without holes")
        return text.literal

    def elements[Item](self, closing: str, read: Callable[[], Item]) -> list[Item]:
        """The elements of an object or array, one a line or with commas between; a comma ends no line (BCP238)."""
        found: list[Item] = []
        while True:
            on_new_line = self._lines()
            if self.accept(closing):
                return found
            if found and not on_new_line:
                self.expect(",")
                if self.now.kind == "line end":
                    raise Unreadable(self.now.line, "a comma must not end the line (BCP238)")
            found.append(read())

    def decorator(self) -> Call:
        """One `@name(…)`, consumed."""
        self.expect("@")
        found = self._postfix()
        if not isinstance(found, Call):
            raise Unreadable(found.line, "a decorator is a call")
        return found

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while self.now.kind == "symbol" and self.now.value in _LEVELS[level]:
            operator = self.take()
            left = Binary(operator.line, operator.value, left, self._binary(level + 1))
        return left

    def _unary(self) -> Node:
        if self.now.kind == "symbol" and self.now.value in ("!", "-"):
            operator = self.take()
            operand = self._unary()
            if operator.value == "-" and isinstance(operand, Number):
                return Number(operator.line, -operand.value)
            return Unary(operator.line, operator.value, operand)
        return self._postfix()

    def _postfix(self) -> Node:
        node = self._primary()
        while self.now.kind == "symbol":
            match self.now.value:
                case "." | ".?" | "::" as dot:
                    node = self._member(node, dot)
                case "[" | "[?" as bracket:
                    line = self.take().line
                    node = Index(line, node, self.expression(), safe=bracket == "[?")
                    self.expect("]")
                case "!":
                    node = Unary(self.take().line, "null!", node)
                case _:
                    break
        return node

    def _member(self, target: Node, dot: str) -> Node:
        line = self.take().line
        name = self.identifier()
        if dot == "." and self.now.value == "(" and self.now.kind == "symbol":
            return Call(line, name, self._arguments(), target)
        return Member(line, target, name, safe=dot == ".?", nested=dot == "::")

    def _arguments(self) -> tuple[Node, ...]:
        self.expect("(")
        found: list[Node] = []
        self._lines()
        while not self.accept(")"):
            if found:
                self.expect(",")
                self._lines()
            found.append(self.expression())
            self._lines()
        return tuple(found)

    def _primary(self) -> Node:
        token = self.now
        match token.kind, token.value:
            case "text", _:
                return self._text(self.take())
            case "number", value:
                self.take()
                return Number(token.line, int(value))
            case "symbol", "{":
                return self._object()
            case "symbol", "[":
                return self._array()
            case "symbol", "(":
                return self._parenthesis()
            case "name", _:
                return self._named()
            case _:
                raise self._unexpected("a value")

    def _named(self) -> Node:
        token = self.take()
        if token.value in _WORDS:
            return _WORDS[token.value](token.line)
        if self.accept("=>"):
            return Lambda(token.line, (token.value,), self.expression())
        if self.now.kind == "symbol" and self.now.value == "(":
            return Call(token.line, token.value, self._arguments())
        return Name(token.line, token.value)

    def _text(self, token: Token) -> Text:
        pieces = (part if isinstance(part, str) else self._hole(part) for part in token.parts)
        return Text(token.line, tuple(pieces))

    def _hole(self, tokens: tuple[Token, ...]) -> Node:
        inner = Expressions(tuple(token for token in tokens if token.kind != "line end"))
        node = inner.expression()
        if inner.now.kind != "end":
            raise Unreadable(inner.now.line, "expected '}' of a string's hole")
        return node

    def _object(self) -> Object:
        line = self.expect("{").line
        members = self.elements("}", self._object_member)
        return Object(
            line,
            tuple(found for found in members if isinstance(found, Property)),
            tuple(found for found in members if isinstance(found, Spread)),
            tuple(found for found in members if isinstance(found, Declaration)),
        )

    def _object_member(self) -> Node:
        line = self.now.line
        if self.accept("..."):
            return Spread(line, self.expression())
        return self.property(self.expression)

    def property(self, value: Callable[[], Node]) -> Property:
        """`key: value`."""
        token = self.now
        quoted = token.kind == "text"
        key = self._text(self.take()) if quoted else Text(token.line, (self.identifier(),))
        self.expect(":")
        return Property(token.line, key, value(), quoted)

    def _array(self) -> Node:
        line = self.expect("[").line
        if self._over_lines("for"):
            return self._loop(line)
        return Array(line, tuple(self.elements("]", self._array_item)))

    def _array_item(self) -> Node:
        line = self.now.line
        return Spread(line, self.expression()) if self.accept("...") else self.expression()

    def _loop(self, line: int) -> Loop:
        index = None
        if self.accept("("):
            item = self.identifier()
            self.expect(",")
            index = self.identifier()
            self.expect(")")
        else:
            item = self.identifier()
        self.expect("in")
        source = self.expression()
        self.expect(":")
        self._lines()
        body = self.loop_body()
        self._lines()
        self.expect("]")
        return Loop(line, item, index, source, body)

    def loop_body(self) -> Node:
        """What a loop repeats; a resource's may have a condition."""
        return self.expression()

    def _parenthesis(self) -> Node:
        start = self._at
        line = self.expect("(").line
        names = [self.take().value] if self.now.kind == "name" else []
        while names and self.accept(","):
            names.append(self.identifier())
        if self.accept(")") and self.accept("=>"):
            return Lambda(line, tuple(names), self.expression())
        self._at = start + 1
        inner = self.expression()
        self.expect(")")
        return inner
