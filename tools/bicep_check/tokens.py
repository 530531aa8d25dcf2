"""Bicep's text to tokens: line ends are tokens, and an interpolated string holds the tokens of its holes."""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["name", "number", "text", "symbol", "line end", "end"]

_SKIPPED = re.compile(r"[ \t]+|//[^\n]*|/\*.*?\*/", re.DOTALL)
_DIRECTIVE = re.compile(r"#disable-next-line[^\n]*")
_NAME = re.compile(r"[A-Za-z_]\w*")
_NUMBER = re.compile(r"\d+")
_SYMBOL = re.compile(r"\.\.\.|=>|==|!=|=~|!~|<=|>=|&&|\|\||\?\?|::|\.\?|\[\?|[{}()\[\].,:?!=<>+\-*/%@|]")
_ESCAPES = {"\\": "\\", "'": "'", "n": "\n", "r": "\r", "t": "\t", "$": "$"}


class Unreadable(Exception):
    """The text is no Bicep."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its line. A text's `parts` are its pieces: strings, and the tokens of each hole."""

    kind: Kind
    value: str
    line: int
    parts: tuple["str | tuple[Token, ...]", ...] = ()


@dataclass(frozen=True, slots=True)
class Directive:
    """A `#disable-next-line` with its codes, and whether a comment beside or above it says why."""

    line: int
    codes: tuple[str, ...]
    explained: bool


def tokens_of(source: str) -> tuple[tuple[Token, ...], tuple[Directive, ...]]:
    """All tokens of a file, the last of kind `end`, and its directives.

    Raises
    ------
    Unreadable
        A character or a string that Bicep does not know.
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
        """The tokens up to the brace that closes a hole, or to the end of the file."""
        found: list[Token] = []
        depth = 0
        while True:
            self._skip()
            if self._at >= len(self._source):
                if closing:
                    raise Unreadable(self._line, "a string's ${ is never closed")
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
                self._note(directive[0])
                self._at = directive.end()
            elif skipped := _SKIPPED.match(self._source, self._at):
                self._at = skipped.end()
            else:
                return

    def _note(self, directive: str) -> None:
        rule, _, why = directive.partition("//")
        above = self._source[: self._at].split("\n")[-2:-1]  # the last piece is what precedes it on its line
        explained = bool(why.strip()) or any(line.strip().startswith("//") for line in above)
        self.directives.append(Directive(self._line, tuple(rule.split()[1:]), explained))

    def _token(self) -> Token:
        line, start = self._line, self._at
        if self._source[start] == "\n":
            self._at += 1
            return Token("line end", "\n", line)
        if self._source[start] == "'":
            return self._multiline(line) if self._source.startswith("'''", start) else self._text(line)
        patterns: tuple[tuple[Kind, re.Pattern[str]], ...] = (("name", _NAME), ("number", _NUMBER), ("symbol", _SYMBOL))
        for kind, pattern in patterns:
            if found := pattern.match(self._source, start):
                self._at = found.end()
                return Token(kind, found[0], line)
        raise Unreadable(line, f"the character {self._source[start]!r} means nothing here")

    def _multiline(self, line: int) -> Token:
        end = self._source.find("'''", self._at + 3)
        if end < 0:
            raise Unreadable(line, "a multi-line string is never closed")
        text = self._source[self._at + 3 : end].removeprefix("\n")
        self._at = end + 3
        return Token("text", text, line, (text,))

    def _text(self, line: int) -> Token:
        parts: list[str | tuple[Token, ...]] = []
        piece = ""
        self._at += 1
        while (char := self._source[self._at : self._at + 1]) != "'":
            if char in ("", "\n"):
                raise Unreadable(line, "a string is not closed on its line")
            if self._source.startswith("${", self._at):
                self._at += 2
                parts += [piece, self.until("}")] if piece else [self.until("}")]
                piece = ""
            else:
                piece += self._character(line)
        self._at += 1
        return Token("text", "", line, (*parts, piece) if piece or not parts else tuple(parts))

    def _character(self, line: int) -> str:
        char = self._source[self._at]
        if char != "\\":
            self._at += 1
            return char
        code = self._source[self._at + 1 : self._at + 2]
        if code not in _ESCAPES:
            raise Unreadable(line, f"a string cannot hold the escape \\{code}")
        self._at += 2
        return _ESCAPES[code]
