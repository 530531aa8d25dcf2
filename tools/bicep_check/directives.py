"""Directives that silence the compiler: each names a code that exists, has its reason, and silences something."""

import re
from collections.abc import Collection, Iterator

from tools.bicep_check.tokens import Directive

# Microsoft: "Use Bicep linter" page.
LINTER_RULES = frozenset(
    [
        "adminusername-should-not-be-literal",
        "artifacts-parameters",
        "decompiler-cleanup",
        "explicit-values-for-loc-params",
        "max-asserts",
        "max-outputs",
        "max-params",
        "max-resources",
        "max-variables",
        "nested-deployment-template-scoping",
        "no-conflicting-metadata",
        "no-deployments-resources",
        "no-explicit-any",
        "no-hardcoded-env-urls",
        "no-hardcoded-location",
        "no-loc-expr-outside-params",
        "no-module-name",
        "no-unnecessary-dependson",
        "no-unused-existing-resources",
        "no-unused-imports",
        "no-unused-params",
        "no-unused-vars",
        "outputs-should-not-contain-secrets",
        "prefer-interpolation",
        "prefer-unquoted-property-names",
        "protect-commandtoexecute-secrets",
        "secure-parameter-default",
        "secure-params-in-nested-deploy",
        "secure-secrets-in-params",
        "simplify-interpolation",
        "simplify-json-null",
        "use-parent-property",
        "use-recent-api-versions",
        "use-recent-module-versions",
        "use-resource-id-functions",
        "use-resource-symbol-reference",
        "use-safe-access",
        "use-secure-value-for-secure-inputs",
        "use-stable-resource-identifiers",
        "use-stable-vm-image",
        "use-user-defined-types",
        "what-if-short-circuiting",
    ]
)
_COMPILERS_CODE = re.compile(r"BCP\d{3}")
# Codes that these checks report themselves. A directive for another code may silence what only the compiler sees.
_JUDGED = frozenset(
    {
        "BCP037",
        "explicit-values-for-loc-params",
        "no-explicit-any",
        "no-hardcoded-env-urls",
        "no-hardcoded-location",
        "no-loc-expr-outside-params",
        "no-unnecessary-dependson",
        "prefer-interpolation",
        "prefer-unquoted-property-names",
        "simplify-interpolation",
        "use-parent-property",
    }
)


def unsound(directive: Directive, silenced: Collection[str]) -> Iterator[str]:
    """What is wrong with a directive, if the checks found these messages on the line that follows it."""
    if not directive.explained:
        yield "a directive needs its reason beside or above it"
    for code in directive.codes:
        if code not in LINTER_RULES and not _COMPILERS_CODE.fullmatch(code):
            yield f"a directive names {code!r}, which is no code of the compiler's or the linter's"
        elif code in _JUDGED and not any(is_of(code, message) for message in silenced):
            yield f"a directive for {code} silences nothing on the line below it"


def is_of(code: str, message: str) -> bool:
    """Whether a finding is what a code stands for."""
    return f"({code})" in message or message.startswith(f"{code}:")
