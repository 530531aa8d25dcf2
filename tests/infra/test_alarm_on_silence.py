"""The dead man's switch: the one alert that fires when there is nothing to see."""

import re
from pathlib import Path

from tests.infra.bicep.program import Program
from tests.infra.bicep.tree import Array
from tests.infra.house import at, deployed, plain

PROGRAM = Program.of_folder(Path(__file__).parents[2] / "infra")


def test_silence_raises_an_alarm() -> None:
    """A query that lists lines cannot tell that there are none: this one counts, and gives its row for none."""
    query = re.sub(r"//[^\n]*", "", PROGRAM.texts["queries/no-sweep.kql"])
    steps = [step.strip() for step in query.split("|")]
    count = next(at for at, step in enumerate(steps) if step.startswith("summarize"))
    assert " by " not in steps[count]
    assert re.fullmatch(r"where \w+ (== 0|< 1)", steps[-1])
    assert re.match(rf"summarize .*\b{steps[-1].split()[1]} = count\(\)", steps[count])
    monitoring = PROGRAM.template("modules/monitoring.bicep")
    rules = monitoring.symbols["alertRules"].value
    assert isinstance(rules, Array)
    (rule,) = [rule for rule in rules.items if plain(at(monitoring, rule, "key")) == "no-sweep"]
    assert plain(at(monitoring, rule, "window")) == "PT30M"
    assert plain(at(monitoring, rule, "severity")) == 0
    _fires_on_any_row("Microsoft.Insights/scheduledQueryRules")


def _fires_on_any_row(resource: str) -> None:
    ((template, alert),) = deployed(PROGRAM, resource)
    criteria = at(template, alert.body, "properties.criteria.allOf")
    assert isinstance(criteria, Array)
    (criterion,) = criteria.items
    said = {key: plain(at(template, criterion, key)) for key in ("timeAggregation", "operator", "threshold")}
    assert said == {"timeAggregation": "Count", "operator": "GreaterThan", "threshold": 0}
    assert plain(at(template, criterion, "failingPeriods.minFailingPeriodsToAlert")) == 1
    assert plain(at(template, alert.body, "properties.evaluationFrequency")) == "PT5M"
