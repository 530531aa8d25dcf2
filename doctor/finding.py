"""What the doctor finds: a fault by its stable name, how bad it is, what is wrong here, and the fix."""

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How bad it is. `FAIL` makes the exit code 1; `skip` says why something was not looked at."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `name` is that of a fault, or, for ok and skip, that of the check."""

    mark: Mark
    name: str
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong. Its name never changes; `meaning` and `fix` are what the documentation says of it."""

    name: str
    meaning: str
    fix: str
    mark: Mark = Mark.FAIL

    def found(self, what: str, fix: str = "") -> Finding:
        """It is there: what of it is seen here, and a fix that fits better than the general one, if there is one."""
        return Finding(self.mark, self.name, what, fix or self.fix)


class CannotCheck(Exception):
    """The check cannot be made; the message says why, without secrets."""
