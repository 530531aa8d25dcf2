"""What a check is: a question, the faults that it can tell apart, and the function that asks."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from doctor.finding import Fault, Finding, Mark
from doctor.patient import Patient

type Ask = Callable[[Patient], AsyncIterator[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """A check. `ask` yields what it finds, nothing if all is well, and raises `CannotCheck` where it cannot be made.

    One that is `deployed` is of an app in Azure alone.
    """

    name: str
    question: str
    faults: tuple[Fault, ...]
    ask: Ask
    deployed: bool = False


def check(name: str, question: str, *faults: Fault, deployed: bool = False) -> Callable[[Ask], Check]:
    """Make a check of a function."""

    def make(ask: Ask) -> Check:
        return Check(name, question, faults, ask, deployed)

    return make


def fine(name: str, what: str) -> Finding:
    """What a check has to tell though nothing is wrong: when the timer fires next, say."""
    return Finding(Mark.OK, name, what)
