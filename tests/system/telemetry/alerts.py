"""The deployed alert rules, read from Bicep, and evaluated on a workspace as Azure Monitor does."""

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from pydantic import TypeAdapter

from local.stack.stack import ROOT
from tests.infra.policy import deployed, literal_value, value_at
from tests.system.telemetry.workspace import Row, Workspace
from tools.bicep_check.program import Program, Template
from tools.bicep_check.tree import Array, Call, Loop, Name, Node, Null, Object, PropertyAccess, String, walk

MONITORING = "modules/monitoring.bicep"
OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqual": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqual": operator.le,
    "Equals": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert rule: when it runs, how much data its query sees, and how many rows make it fire."""

    key: str
    query: str
    severity: int
    window: timedelta
    look_back: timedelta
    frequency: timedelta
    operator: str
    threshold: int
    dimensions: tuple[str, ...]
    placeholder: str  # in the query, for the workspace's time of creation

    def text(self, created: datetime | None = None) -> str:
        """Return the query as deployed to a workspace that was created then. None: a long time ago."""
        moment = created or datetime.fromisoformat("2020-01-01T00:00:00Z")
        return self.query.replace(self.placeholder, moment.isoformat())

    def rows(self, workspace: Workspace, now: datetime, created: datetime | None = None) -> list[Row]:
        """Return the rows of the query at a moment."""
        return workspace.query(self.text(created), now, self.look_back)

    def fires(self, workspace: Workspace, now: datetime, created: datetime | None = None) -> bool:
        """Return True if the rule fires at a moment, for any value of its dimensions."""
        rows = self.rows(workspace, now, created)
        counted = Counter(tuple(row[name] for name in self.dimensions) for row in rows)
        counts = counted.values() or [0]
        return any(OPERATORS[self.operator](count, self.threshold) for count in counts)

    def moments(self, first: datetime, last: datetime) -> Iterator[datetime]:
        """Yield the moments of a span at which the rule runs."""
        while first <= last:
            yield first
            first += self.frequency


@cache
def rules() -> dict[str, Rule]:
    """Return the deployed rules by key. Bicep that this reader does not know fails an assertion."""
    program = Program.of_folder(ROOT / "infra")
    ((template, alert),) = deployed(program, "Microsoft.Insights/scheduledQueryRules")
    assert template.path == MONITORING
    assert isinstance(alert.value, Loop)
    source = alert.value.source
    assert isinstance(source, Name)
    listed = template.symbols[source.name].value
    assert isinstance(listed, Array)
    properties = alert.body and alert.body.get("properties")
    assert isinstance(properties, Object)
    found = [_rule(program, alert.value.item, item, properties) for item in listed.items]
    return {rule.key: rule for rule in found}


def _rule(program: Program, item: str, values: Node, properties: Object) -> Rule:
    """Return a rule. `properties` is the body of the loop, and `values` is the value of its variable `item`."""
    template = program.template(MONITORING)

    def said(path: str) -> str | int | bool | None:
        node = value_at(template, properties, path)
        if isinstance(node, PropertyAccess) and isinstance(node.target, Name) and node.target.name == item:
            node = value_at(template, values, node.name)
        assert isinstance(node, Null) or literal_value(node) is not None, path
        return literal_value(node)

    criteria = value_at(template, properties, "criteria.allOf")
    assert isinstance(criteria, Array)
    (criterion,) = criteria.items
    assert isinstance(criterion, Object)
    assert literal_value(criterion.get("timeAggregation")) == "Count"
    for key in ("numberOfEvaluationPeriods", "minFailingPeriodsToAlert"):
        assert literal_value(value_at(template, criterion, f"failingPeriods.{key}")) == 1
    split = value_at(template, values, "splitBy")
    assert isinstance(split, Array)
    window = _duration(said("windowSize"))
    return Rule(
        key=str(literal_value(value_at(template, values, "key"))),
        query=_query(program, values),
        severity=int(said("severity") or 0),
        window=window,
        look_back=_duration(said("overrideQueryTimeRange")) if said("overrideQueryTimeRange") else window,
        frequency=_duration(said("evaluationFrequency")),
        operator=str(literal_value(criterion.get("operator"))),
        threshold=int(literal_value(criterion.get("threshold")) or 0),
        dimensions=tuple(str(literal_value(name)) for name in split.items),
        placeholder=_placeholder(template, criterion.get("query"), item),
    )


def _query(program: Program, values: Node) -> str:
    node = value_at(program.template(MONITORING), values, "query")
    assert isinstance(node, Call)
    assert node.function == "loadTextContent"
    return program.texts[str(literal_value(node.arguments[0])).removeprefix("../")]


def _placeholder(template: Template, node: Node | None, item: str) -> str:
    """Return the placeholder of `replace(item.query, placeholder, created)`; `created` must be the workspace's time."""
    assert isinstance(node, Call)
    assert node.function == "replace"
    query, placeholder, created = node.arguments
    (workspace,) = [name.name for name in walk(created) if isinstance(name, Name)]
    resource = template.resource_type(template.symbols[workspace])
    assert resource.startswith("Microsoft.OperationalInsights/workspaces@")
    assert [part.name for part in walk(created) if isinstance(part, PropertyAccess)] == ["createdDate", "properties"]
    assert isinstance(query, PropertyAccess)
    assert isinstance(query.target, Name)
    assert (query.target.name, query.name) == (item, "query")
    assert isinstance(placeholder, String)
    return str(placeholder.literal)


def _duration(value: object) -> timedelta:
    return TypeAdapter(timedelta).validate_python(value)
