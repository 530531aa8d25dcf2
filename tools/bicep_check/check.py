"""All checks of Bicep together: what is wrong, and what an explained directive excuses."""

from collections.abc import Iterator
from dataclasses import dataclass

from tools.bicep_check.compiler import compile_program
from tools.bicep_check.directives import is_of, unsound
from tools.bicep_check.linter import lint
from tools.bicep_check.names import check_names
from tools.bicep_check.program import Finding, Program
from tools.bicep_check.tokens import Directive, Unreadable


@dataclass(frozen=True, slots=True)
class Report:
    """What was found: faults, and those that a `#disable-next-line` with a reason excuses."""

    faults: tuple[Finding, ...]
    excused: tuple[Finding, ...]


def check(program: Program) -> Report:
    """Every check of every file, in the order of the files."""
    findings = sorted({*compile_program(program), *check_names(program), *lint(program)})
    directives = dict(_directives(program))
    excused = tuple(found for found in findings if _excuses(directives.get((found.path, found.line - 1)), found))
    below: dict[tuple[str, int], list[str]] = {}
    for found in findings:
        below.setdefault((found.path, found.line - 1), []).append(found.message)
    wrong = (
        Finding(path, line, message)
        for (path, line), directive in directives.items()
        for message in unsound(directive, below.get((path, line), []))
    )
    return Report((*(found for found in findings if found not in excused), *wrong), excused)


def _directives(program: Program) -> Iterator[tuple[tuple[str, int], Directive]]:
    for path in program.names(".bicep"):
        try:
            template = program.template(path)
        except Unreadable:
            continue
        yield from (((path, directive.line), directive) for directive in template.directives)


def _excuses(directive: Directive | None, found: Finding) -> bool:
    return any(is_of(code, found.message) for code in (directive.codes if directive else ()))
