"""The type of a check: its question, the faults that it can report, and the function that runs it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from doctor.finding import Fault, Finding, Severity
from doctor.target import Target

type CheckFunction = Callable[[Target], AsyncIterator[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """A check of the doctor.

    `run` yields a finding for each problem, and raises `CannotCheck` if the check cannot be made.
    A check with `deployed_only` is made for apps in Azure only.
    """

    name: str
    question: str
    faults: tuple[Fault, ...]
    run: CheckFunction
    deployed_only: bool = False


def check(name: str, question: str, *faults: Fault, deployed_only: bool = False) -> Callable[[CheckFunction], Check]:
    """Return a decorator that makes a `Check` of a function."""

    def make(run: CheckFunction) -> Check:
        return Check(name, question, faults, run, deployed_only)

    return make


def note(name: str, message: str) -> Finding:
    """Return a finding without a problem, such as the times of the timer's next runs."""
    return Finding(Severity.OK, name, message)
