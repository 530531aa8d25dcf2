"""Findings of the doctor: a fault with a stable name, its severity, the observed problem and the fix."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The severity of a finding. `FAIL` makes the exit code 1; `skip` gives the reason why a check was not made."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `name` is the name of a fault or, for ok and skip, of the check."""

    severity: Severity
    name: str
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A known fault. Its name never changes; docs/doctor.md quotes `meaning` and `fix`."""

    name: str
    meaning: str
    fix: str
    severity: Severity = Severity.FAIL

    def found(self, message: str, fix: str = "") -> Finding:
        """Return a finding of this fault.

        Parameters
        ----------
        message
            The problem as observed in this app, without secrets.
        fix
            A fix that is more specific than the fault's own; empty if there is none.
        """
        return Finding(self.severity, self.name, message, fix or self.fix)


class CannotCheck(Exception):
    """The check cannot be made. The message gives the reason, without secrets."""
