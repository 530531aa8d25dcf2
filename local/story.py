"""Telling what happens: timed lines for a person, in colour only on a terminal."""

import os
import sys
import time
from typing import TextIO

GREEN, RED, DIM, BOLD = "32", "31", "2", "1"


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
        """A line: when, who, what."""
        when = self.paint(f"{self.seconds:6.1f} s", DIM)
        self._print(f"{when}  {who:<11} {self.paint(text, colour) if colour else text}")

    def more(self, text: str) -> None:
        """A line that goes on from the one before."""
        self._print(" " * 22 + text)

    def last(self, text: str) -> None:
        """The closing line."""
        self._print("")
        self._print(text)

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, on a terminal."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)
