"""bicepconfig.json sets all rules of the linter to error, except two."""

import json
from pathlib import Path

from tools.bicep_check.directives import LINTER_RULES

ROOT = Path(__file__).parents[2]

NOT_AT_ERROR = {
    "use-recent-api-versions": "info",  # a version becomes old on some day; a warning would fail the workflow then
    "use-resource-id-functions": "off",  # reports ids in params, which are correct
}


def test_the_rules_of_the_linter_are_known_and_set_to_error() -> None:
    config = json.loads((ROOT / "bicepconfig.json").read_text(encoding="utf-8"))
    levels = {name: rule["level"] for name, rule in config["analyzers"]["core"]["rules"].items()}
    assert levels.keys() <= LINTER_RULES
    assert {name: level for name, level in levels.items() if level != "error"} == NOT_AT_ERROR
