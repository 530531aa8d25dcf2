"""Checks of `#disable-next-line` directives: each names codes that exist, has a reason, and suppresses something."""

import re
from collections.abc import Collection, Iterator

from tools.bicep_check.tokens import Directive

# Microsoft: "Use Bicep linter" page, all rules.
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
_COMPILER_CODE = re.compile(r"BCP\d{3}")
# Codes that this tool reports itself. A directive for another code may suppress a finding of the compiler alone.
_REPORTED_HERE = frozenset(
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


def directive_faults(directive: Directive, messages_below: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with a directive, given the messages of the findings on the line below it."""
    if not directive.explained:
        yield "a directive needs a comment with its reason, on its line or above it"
    for code in directive.codes:
        if code not in LINTER_RULES and not _COMPILER_CODE.fullmatch(code):
            yield f"a directive names {code!r}, which is no code of the compiler or the linter"
        elif code in _REPORTED_HERE and not any(is_about(code, message) for message in messages_below):
            yield f"a directive for {code} suppresses nothing on the line below it"


def is_about(code: str, message: str) -> bool:
    """Return True if a message has this code."""
    return f"({code})" in message or message.startswith(f"{code}:")
