"""Where a reader of tokens stands, and how it goes on."""

from tools.bicep_check.tokens import Token, Unreadable


class Cursor:
    """A place in a file's tokens."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def now(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._at]

    def peek(self, ahead: int = 1) -> Token:
        """A token further on."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token, consumed."""
        token = self.now
        self._at += token.kind != "end"
        return token

    def accept(self, symbol: str) -> bool:
        """Whether this symbol or word comes next; it is consumed."""
        found = self.now.kind in ("symbol", "name") and self.now.value == symbol
        self._at += found
        return found

    def expect(self, symbol: str) -> Token:
        """Consume this symbol or word."""
        token = self.now
        if not self.accept(symbol):
            raise self._unexpected(repr(symbol))
        return token

    def identifier(self) -> str:
        """Consume a name."""
        if self.now.kind != "name":
            raise self._unexpected("a name")
        return self.take().value

    def _lines(self) -> bool:
        start = self._at
        while self.now.kind == "line end":
            self._at += 1
        return self._at > start

    def _unexpected(self, wanted: str) -> Unreadable:
        seen = "the end of the line" if self.now.kind == "line end" else repr(self.now.value or self.now.kind)
        return Unreadable(self.now.line, f"expected {wanted}, not {seen}")

    def _over_lines(self, symbol: str) -> bool:
        start = self._at
        self._lines()
        if self.accept(symbol):
            return True
        self._at = start
        return False
