"""A position in a file's tokens, with the steps that the parser takes."""

from tools.bicep_check.tokens import BicepSyntaxError, Token


class Cursor:
    """A position in a file's tokens."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def now(self) -> Token:
        """The next token."""
        return self._tokens[self._at]

    def peek(self, ahead: int = 1) -> Token:
        """Return the token that many places ahead."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Consume the next token and return it."""
        token = self.now
        self._at += token.kind != "end"
        return token

    def accept(self, symbol: str) -> bool:
        """Consume the next token if it is this symbol or word; return True if it was."""
        found = self.now.kind in ("symbol", "name") and self.now.value == symbol
        self._at += found
        return found

    def expect(self, symbol: str) -> Token:
        """Consume this symbol or word.

        Raises
        ------
        BicepSyntaxError
            Another token is next.
        """
        token = self.now
        if not self.accept(symbol):
            raise self._unexpected(repr(symbol))
        return token

    def identifier(self) -> str:
        """Consume a name and return it."""
        if self.now.kind != "name":
            raise self._unexpected("a name")
        return self.take().value

    def _skip_line_ends(self) -> bool:
        start = self._at
        while self.now.kind == "line end":
            self._at += 1
        return self._at > start

    def _unexpected(self, expected: str) -> BicepSyntaxError:
        seen = "the end of the line" if self.now.kind == "line end" else repr(self.now.value or self.now.kind)
        return BicepSyntaxError(self.now.line, f"expected {expected}, not {seen}")

    def _accept_over_lines(self, symbol: str) -> bool:
        start = self._at
        self._skip_line_ends()
        if self.accept(symbol):
            return True
        self._at = start
        return False
