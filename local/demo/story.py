"""Telling what happens: timed lines for a person, in colour only on a terminal."""

import os
import sys
import textwrap
import time
from typing import TextIO

GREEN, RED, DIM, BOLD = "32", "31", "2", "1"
WIDTH = 110  # columns
_TIME, _WHO = 10, 12  # columns before the text


class Story:
    """Prints lines, each with the seconds since the beginning."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._colour = self._out.isatty() and "NO_COLOR" not in os.environ
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def title(self, text: str) -> None:
        """A line above others."""
        self._print("")
        self._print(self.paint(text, BOLD))

    def say(self, who: str, text: str, colour: str = "") -> None:
        """When, who, what; a long text goes on below."""
        self._row(f"{self.seconds:6.1f} s", who, text, colour)

    def more(self, text: str) -> None:
        """What goes on from the line before."""
        self._row("", "", text)

    def fact(self, name: str, text: str) -> None:
        """A line of a summary."""
        self._row("", name, text)

    def last(self, text: str) -> None:
        """The closing line."""
        self._print("")
        self._print(text)

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, on a terminal."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text

    def _row(self, when: str, who: str, text: str, colour: str = "") -> None:
        lines = textwrap.wrap(text, WIDTH - _TIME - _WHO, break_long_words=False, break_on_hyphens=False)
        first, *others = lines or [""]
        self._print(f"{self.paint(f'{when:<{_TIME}}', DIM)}{who:<{_WHO}}{self._in(colour, first)}")
        for line in others:
            self._print(" " * (_TIME + _WHO) + self._in(colour, line))

    def _in(self, colour: str, text: str) -> str:
        return self.paint(text, colour) if colour else text

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)
