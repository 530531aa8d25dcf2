"""Runs all checks over a folder of Bicep, and applies the directives that suppress findings."""

from collections.abc import Iterator
from dataclasses import dataclass

from tools.bicep_check.declarations import check_declarations
from tools.bicep_check.directives import directive_faults, is_about
from tools.bicep_check.linter import lint
from tools.bicep_check.program import Finding, Program
from tools.bicep_check.symbols import check_symbols
from tools.bicep_check.tokens import BicepSyntaxError, Directive


@dataclass(frozen=True, slots=True)
class Result:
    """The findings that stand, and those that a `#disable-next-line` directive suppresses."""

    findings: tuple[Finding, ...]
    suppressed: tuple[Finding, ...]


def check(program: Program) -> Result:
    """Run every check on every file. The findings are sorted by file and line; those on directives come last."""
    found = sorted({*check_declarations(program), *check_symbols(program), *lint(program)})
    directives = dict(_directives(program))
    suppressed = tuple(
        finding for finding in found if _suppresses(directives.get((finding.path, finding.line - 1)), finding)
    )
    messages_below: dict[tuple[str, int], list[str]] = {}
    for finding in found:
        messages_below.setdefault((finding.path, finding.line - 1), []).append(finding.message)
    of_directives = (
        Finding(path, line, message)
        for (path, line), directive in directives.items()
        for message in directive_faults(directive, messages_below.get((path, line), []))
    )
    return Result((*(finding for finding in found if finding not in suppressed), *of_directives), suppressed)


def _directives(program: Program) -> Iterator[tuple[tuple[str, int], Directive]]:
    for path in program.names(".bicep"):
        try:
            template = program.template(path)
        except BicepSyntaxError:
            continue
        yield from (((path, directive.line), directive) for directive in template.directives)


def _suppresses(directive: Directive | None, finding: Finding) -> bool:
    return any(is_about(code, finding.message) for code in (directive.codes if directive else ()))
