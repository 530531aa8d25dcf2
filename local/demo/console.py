"""Console output of the demo: lines with time and actor, in colour on a terminal."""

import os
import sys
import textwrap
import time
from typing import TextIO

GREEN, RED, DIM, BOLD = "32", "31", "2", "1"  # ANSI codes
MAX_WIDTH = 110  # columns
_TIME_WIDTH, _ACTOR_WIDTH = 10, 12  # columns before the text


class Console:
    """Prints lines, each with the seconds since the start."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._colour = self._out.isatty() and "NO_COLOR" not in os.environ
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds since the start."""
        return time.monotonic() - self._started

    def title(self, text: str) -> None:
        """Print a heading."""
        self._print("")
        self._print(self.paint(text, BOLD))

    def say(self, actor: str, text: str, colour: str = "") -> None:
        """Print what an actor does, with the time. A long text is wrapped."""
        self._row(f"{self.seconds:6.1f} s", actor, text, colour)

    def more(self, text: str) -> None:
        """Print a line that continues the one before."""
        self._row("", "", text)

    def fact(self, name: str, text: str) -> None:
        """Print a line of the summary."""
        self._row("", name, text)

    def last(self, text: str) -> None:
        """Print the closing line."""
        self._print("")
        self._print(text)

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour if the output is a terminal."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text

    def _row(self, when: str, actor: str, text: str, colour: str = "") -> None:
        width = MAX_WIDTH - _TIME_WIDTH - _ACTOR_WIDTH
        first, *others = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
        time_column = self.paint(f"{when:<{_TIME_WIDTH}}", DIM)
        self._print(f"{time_column}{actor:<{_ACTOR_WIDTH}}{self._coloured(first, colour)}")
        for line in others:
            self._print(" " * (_TIME_WIDTH + _ACTOR_WIDTH) + self._coloured(line, colour))

    def _coloured(self, text: str, colour: str) -> str:
        return self.paint(text, colour) if colour else text

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)
