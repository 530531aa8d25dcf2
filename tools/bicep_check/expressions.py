"""The parser of expressions, by recursive descent. Line ends matter, as they do for the compiler."""

from collections.abc import Callable

from tools.bicep_check.cursor import Cursor
from tools.bicep_check.tokens import BicepSyntaxError, Token
from tools.bicep_check.tree import (
    Array,
    ArrayAccess,
    Binary,
    Boolean,
    Call,
    Declaration,
    Integer,
    Lambda,
    Loop,
    Name,
    Node,
    Null,
    Object,
    Property,
    PropertyAccess,
    Spread,
    String,
    Ternary,
    Unary,
)

_LEVELS = (("??",), ("||",), ("&&",), ("==", "!=", "=~", "!~"), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
_KEYWORDS: dict[str, Callable[[int], Node]] = {
    "true": lambda line: Boolean(line, value=True),
    "false": lambda line: Boolean(line, value=False),
    "null": Null,
}


class Expressions(Cursor):
    """Parses expressions."""

    def expression(self) -> Node:
        """Parse the next expression. A ternary may have `?` and `:` on lines of their own."""
        condition = self._binary(0)
        if not self._accept_over_lines("?"):
            return condition
        self._skip_line_ends()
        yes = self.expression()
        if not self._accept_over_lines(":"):
            raise self._unexpected("the ':' of a ternary")
        self._skip_line_ends()
        return Ternary(condition.line, condition, yes, self.expression())

    def literal(self) -> str:
        """Parse a string without interpolation and return its text."""
        text = self._primary()
        if not isinstance(text, String) or text.literal is None:
            raise BicepSyntaxError(text.line, "expected a string without interpolation")
        return text.literal

    def elements[Item](self, closing: str, read: Callable[[], Item]) -> list[Item]:
        """Parse the elements of an object or array: one per line, or with commas between. No comma ends a line."""
        found: list[Item] = []
        while True:
            on_new_line = self._skip_line_ends()
            if self.accept(closing):
                return found
            if found and not on_new_line:
                self.expect(",")
                if self.now.kind == "line end":
                    raise BicepSyntaxError(self.now.line, "a comma must not end the line (BCP238)")
            found.append(read())

    def decorator(self) -> Call:
        """Parse one `@name(…)`."""
        self.expect("@")
        found = self._postfix()
        if not isinstance(found, Call):
            raise BicepSyntaxError(found.line, "a decorator must be a call")
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
            if operator.value == "-" and isinstance(operand, Integer):
                return Integer(operator.line, -operand.value)
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
                    node = ArrayAccess(line, node, self.expression(), safe=bracket == "[?")
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
        return PropertyAccess(line, target, name, safe=dot == ".?", nested=dot == "::")

    def _arguments(self) -> tuple[Node, ...]:
        self.expect("(")
        found: list[Node] = []
        self._skip_line_ends()
        while not self.accept(")"):
            if found:
                self.expect(",")
                self._skip_line_ends()
            found.append(self.expression())
            self._skip_line_ends()
        return tuple(found)

    def _primary(self) -> Node:
        token = self.now
        match token.kind, token.value:
            case "string", _:
                return self._string(self.take())
            case "number", value:
                self.take()
                return Integer(token.line, int(value))
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
        if token.value in _KEYWORDS:
            return _KEYWORDS[token.value](token.line)
        if self.accept("=>"):
            return Lambda(token.line, (token.value,), self.expression())
        if self.now.kind == "symbol" and self.now.value == "(":
            return Call(token.line, token.value, self._arguments())
        return Name(token.line, token.value)

    def _string(self, token: Token) -> String:
        pieces = (part if isinstance(part, str) else self._interpolation(part) for part in token.parts)
        return String(token.line, tuple(pieces))

    def _interpolation(self, tokens: tuple[Token, ...]) -> Node:
        inner = Expressions(tuple(token for token in tokens if token.kind != "line end"))
        node = inner.expression()
        if inner.now.kind != "end":
            raise BicepSyntaxError(inner.now.line, "expected '}' at the end of an interpolation")
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
        """Parse `key: value`."""
        token = self.now
        quoted = token.kind == "string"
        key = self._string(self.take()) if quoted else String(token.line, (self.identifier(),))
        self.expect(":")
        return Property(token.line, key, value(), quoted)

    def _array(self) -> Node:
        line = self.expect("[").line
        if self._accept_over_lines("for"):
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
        self._skip_line_ends()
        body = self.loop_body()
        self._skip_line_ends()
        self.expect("]")
        return Loop(line, item, index, source, body)

    def loop_body(self) -> Node:
        """Parse the body of a loop. The parser of declarations allows a condition there."""
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
