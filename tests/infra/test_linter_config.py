"""bicepconfig.json: the linter's rules, all at error but two."""

import json
from pathlib import Path

from tools.bicep_check.directives import LINTER_RULES

ROOT = Path(__file__).parents[2]

NOT_AT_ERROR = {
    "use-recent-api-versions": "info",  # a version turns two years old on some day; a warning would fail the workflow
    "use-resource-id-functions": "off",  # takes ids that params carry for faults
}


def test_the_linters_rules_are_known_and_at_error() -> None:
    config = json.loads((ROOT / "bicepconfig.json").read_text(encoding="utf-8"))
    levels = {name: rule["level"] for name, rule in config["analyzers"]["core"]["rules"].items()}
    assert levels.keys() <= LINTER_RULES
    assert {name: level for name, level in levels.items() if level != "error"} == NOT_AT_ERROR
