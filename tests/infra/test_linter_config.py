"""bicepconfig.json: the linter's rules, all at error."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]

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
NOT_AT_ERROR = {
    "use-recent-api-versions": "warning",  # a version turns two years old on some day, and no day may break a build
    "use-resource-id-functions": "off",  # takes ids that params carry for faults
}


def test_the_linters_rules_are_known_and_at_error() -> None:
    config = json.loads((ROOT / "bicepconfig.json").read_text(encoding="utf-8"))
    levels = {name: rule["level"] for name, rule in config["analyzers"]["core"]["rules"].items()}
    assert levels.keys() <= LINTER_RULES
    assert {name: level for name, level in levels.items() if level != "error"} == NOT_AT_ERROR
