"""The lexer: turns text into tokens. Line ends are tokens; a string holds the tokens of its interpolations."""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["name", "number", "string", "symbol", "line end", "end"]

_SKIPPED = re.compile(r"[ \t]+|//[^\n]*|/\*.*?\*/", re.DOTALL)
_DIRECTIVE = re.compile(r"#disable-next-line[^\n]*")
_NAME = re.compile(r"[A-Za-z_]\w*")
_NUMBER = re.compile(r"\d+")
_SYMBOL = re.compile(r"\.\.\.|=>|==|!=|=~|!~|<=|>=|&&|\|\||\?\?|::|\.\?|\[\?|[{}()\[\].,:?!=<>+\-*/%@|]")
_ESCAPES = {"\\": "\\", "'": "'", "n": "\n", "r": "\r", "t": "\t", "$": "$"}


class BicepSyntaxError(Exception):
    """The text is not Bicep, or is Bicep that this reader does not know."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its line. The `parts` of a string are its fixed texts and the tokens of each interpolation."""

    kind: Kind
    value: str
    line: int
    parts: tuple["str | tuple[Token, ...]", ...] = ()


@dataclass(frozen=True, slots=True)
class Directive:
    """A `#disable-next-line` with its codes. `explained` is true if a comment is on its line or above it."""

    line: int
    codes: tuple[str, ...]
    explained: bool


def tokens_of(source: str) -> tuple[tuple[Token, ...], tuple[Directive, ...]]:
    """Return all tokens of a file, the last of kind `end`, and its directives.

    Raises
    ------
    BicepSyntaxError
        A character or a string is not allowed in Bicep.
    """
    lexer = _Lexer(source)
    return lexer.until(None), tuple(lexer.directives)


class _Lexer:
    def __init__(self, source: str) -> None:
        self._source = source.replace("\r\n", "\n")
        self._at = 0
        self.directives: list[Directive] = []

    @property
    def _line(self) -> int:
        return self._source.count("\n", 0, self._at) + 1

    def until(self, closing: str | None) -> tuple[Token, ...]:
        """Return the tokens up to the brace that closes an interpolation, or up to the end of the file."""
        found: list[Token] = []
        depth = 0
        while True:
            self._skip()
            if self._at >= len(self._source):
                if closing:
                    raise BicepSyntaxError(self._line, "the ${ of a string is not closed")
                break
            token = self._token()
            if closing:
                if token.value == closing and token.kind == "symbol" and depth == 0:
                    break
                depth += {"{": 1, "}": -1}.get(token.value, 0) if token.kind == "symbol" else 0
            found.append(token)
        return (*found, Token("end", "", self._line))

    def _skip(self) -> None:
        while True:
            if directive := _DIRECTIVE.match(self._source, self._at):
                self._add_directive(directive[0])
                self._at = directive.end()
            elif skipped := _SKIPPED.match(self._source, self._at):
                self._at = skipped.end()
            else:
                return

    def _add_directive(self, directive: str) -> None:
        rule, _, why = directive.partition("//")
        above = self._source[: self._at].split("\n")[-2:-1]  # the last item is the text before it on its own line
        explained = bool(why.strip()) or any(line.strip().startswith("//") for line in above)
        self.directives.append(Directive(self._line, tuple(rule.split()[1:]), explained))

    def _token(self) -> Token:
        line, start = self._line, self._at
        if self._source[start] == "\n":
            self._at += 1
            return Token("line end", "\n", line)
        if self._source[start] == "'":
            return self._multiline(line) if self._source.startswith("'''", start) else self._string(line)
        patterns: tuple[tuple[Kind, re.Pattern[str]], ...] = (("name", _NAME), ("number", _NUMBER), ("symbol", _SYMBOL))
        for kind, pattern in patterns:
            if found := pattern.match(self._source, start):
                self._at = found.end()
                return Token(kind, found[0], line)
        raise BicepSyntaxError(line, f"the character {self._source[start]!r} is not allowed here")

    def _multiline(self, line: int) -> Token:
        end = self._source.find("'''", self._at + 3)
        if end < 0:
            raise BicepSyntaxError(line, "a multi-line string is not closed")
        text = self._source[self._at + 3 : end].removeprefix("\n")
        self._at = end + 3
        return Token("string", text, line, (text,))

    def _string(self, line: int) -> Token:
        parts: list[str | tuple[Token, ...]] = []
        piece = ""
        self._at += 1
        while (char := self._source[self._at : self._at + 1]) != "'":
            if char in ("", "\n"):
                raise BicepSyntaxError(line, "a string is not closed on its line")
            if self._source.startswith("${", self._at):
                self._at += 2
                parts += [piece, self.until("}")] if piece else [self.until("}")]
                piece = ""
            else:
                piece += self._character(line)
        self._at += 1
        return Token("string", "", line, (*parts, piece) if piece or not parts else tuple(parts))

    def _character(self, line: int) -> str:
        char = self._source[self._at]
        if char != "\\":
            self._at += 1
            return char
        code = self._source[self._at + 1 : self._at + 2]
        if code not in _ESCAPES:
            raise BicepSyntaxError(line, f"a string has no escape \\{code}")
        self._at += 2
        return _ESCAPES[code]
