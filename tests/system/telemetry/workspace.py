"""A Log Analytics workspace on this machine: the exporter's items as rows of its tables, and KQL on these rows.

Application Insights makes rows of the exporter's envelopes so (Microsoft's pages on workspace-based resources, on the
data model and on the tables):

| envelope | column |
|---|---|
| `time` | TimeGenerated |
| tags `ai.operation.id`, `.name`, `.parentId`, `ai.cloud.role`, `.roleInstance` | OperationId, OperationName, ParentId, AppRoleName, AppRoleInstance |
| `properties`, whose values are strings; `measurements` | Properties, Measurements |
| MessageData: `message`, `severityLevel` | Message, SeverityLevel |
| RequestData, RemoteDependencyData: `responseCode` or `resultCode`, `duration` | ResultCode, DurationMs |
| RemoteDependencyData: `type`; RequestData: `url` | DependencyType; Url |
| MetricData: `value`, `count`, `min`, `max` of its one point | Sum, ItemCount, Min, Max |
| ExceptionData: the first exception's `typeName` and `message` | ExceptionType and OuterType, OuterMessage |
"""  # noqa: E501 (a row of a table is a line)

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import duckdb_kql

from tests.system.telemetry.ingestion import Item
from tests.system.telemetry.language_service import TABLES

SQL_TYPES = {
    "string": "VARCHAR",
    "dynamic": "JSON",
    "datetime": "TIMESTAMP",
    "int": "INTEGER",
    "real": "DOUBLE",
    "bool": "BOOLEAN",
}
TAGS = {
    "OperationId": "ai.operation.id",
    "OperationName": "ai.operation.name",
    "ParentId": "ai.operation.parentId",
    "AppRoleName": "ai.cloud.role",
    "AppRoleInstance": "ai.cloud.roleInstance",
}
EVER = timedelta(days=36_500)

type Row = dict[str, object]
type Data = Mapping[str, Any]


class Workspace:
    """Tables with rows. A query sees the rows that were ingested by a moment, and are not older than a span."""

    def __init__(self, items: Iterable[Item], *, late: timedelta = timedelta(), copies: int = 1) -> None:
        """Fill the tables.

        Parameters
        ----------
        items
            The items that the exporter sent. A table without an item does not exist, as in a workspace.
        late
            The time after which an item can be queried.
        copies
            The number of times that each item arrives. The exporter repeats a batch if the response is lost.
        """
        self._connection = duckdb_kql.connect(config={"threads": 1})  # the tables are small
        self._late = late
        rows: dict[str, list[Row]] = {}
        for item in items:
            rows.setdefault(item.table, []).extend([row(item)] * copies)
        for table, found in rows.items():
            self.add(table, found)

    def add(self, table: str, rows: Iterable[Row]) -> None:
        """Add rows, and the table if there is none."""
        columns = TABLES[table]
        declared = ", ".join(f'"{name}" {SQL_TYPES[kind]}' for name, kind in columns.items())
        self._connection.execute(f'CREATE TABLE IF NOT EXISTS "all{table}" ({declared})')
        self._connection.execute(
            f'CREATE VIEW IF NOT EXISTS "{table}" AS SELECT * FROM "all{table}" '
            f"WHERE TimeGenerated > getvariable('oldest') AND TimeGenerated <= getvariable('newest')"
        )
        values = [[_cell(found.get(name)) for name in columns] for found in rows]
        if values:
            marks = ", ".join("?" * len(columns))
            self._connection.executemany(f'INSERT INTO "all{table}" VALUES ({marks})', values)

    def query(self, text: str, now: datetime, look_back: timedelta = EVER) -> list[Row]:
        """Return the rows of a query at a moment."""
        moment = now.astimezone(UTC).replace(tzinfo=None)
        self._connection.execute("SET VARIABLE oldest = ?::TIMESTAMP", [moment - look_back])
        self._connection.execute("SET VARIABLE newest = ?::TIMESTAMP", [moment - self._late])
        sql, parameters = _translated(text, frozenset(self._tables()))
        # The translation binds each `now()` and `ago()` to one parameter: here it is the given moment.
        bound = dict.fromkeys(parameters, moment)
        found = self._connection.execute(sql, bound) if bound else self._connection.execute(sql)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, values, strict=True)) for values in found.fetchall()]

    def _tables(self) -> Iterable[str]:
        found = self._connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        return (str(name) for (name,) in found)


def row(item: Item) -> Row:
    """Return an item as a row, see the table above."""
    made: Row = {
        "TimeGenerated": item.time.astimezone(UTC).replace(tzinfo=None),
        "Type": item.table,
        "ItemCount": 1,
        "Properties": item.properties,
        "Measurements": item.data.get("measurements") or {},
        **{column: item.tags.get(tag) for column, tag in TAGS.items()},
    }
    return made | OF_TABLE[item.table](item.data)


def _trace(data: Data) -> Row:
    return {"Message": data["message"], "SeverityLevel": data["severityLevel"]}


def _request(data: Data) -> Row:
    return _asked(data, "responseCode") | {"Url": data.get("url"), "Source": data.get("source")}


def _dependency(data: Data) -> Row:
    more = {"Data": data.get("data"), "DependencyType": data.get("type"), "Target": data.get("target")}
    return _asked(data, "resultCode") | more


def _asked(data: Data, code: str) -> Row:
    names = {"Id": "id", "Name": "name", "ResultCode": code, "Success": "success"}
    return {column: data.get(name) for column, name in names.items()} | {"DurationMs": _milliseconds(data["duration"])}


def _milliseconds(duration: str) -> float:
    """Of `days.hours:minutes:seconds`."""
    days, _, clock = duration.partition(".")
    hours, minutes, seconds = clock.split(":")
    span = timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    return span / timedelta(milliseconds=1)


def _metric(data: Data) -> Row:
    (point,) = data["metrics"]
    return {
        "Name": point["name"],
        "Sum": point["value"],
        "ItemCount": point.get("count", 1),
        "Min": point.get("min"),
        "Max": point.get("max"),
    }


def _exception(data: Data) -> Row:
    first = data["exceptions"][0]
    return {"ExceptionType": first["typeName"], "OuterType": first["typeName"], "OuterMessage": first["message"]}


OF_TABLE: dict[str, Callable[[Data], Row]] = {
    "AppTraces": _trace,
    "AppRequests": _request,
    "AppDependencies": _dependency,
    "AppMetrics": _metric,
    "AppExceptions": _exception,
}


@cache
def _translated(text: str, tables: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Return a query in SQL and the names of its parameters. Cached: the translation takes longer than the query."""
    schema = {table: list(TABLES[table]) for table in sorted(tables)}
    translated = duckdb_kql.to_sql(text, schema=schema, query_now=datetime(2026, 1, 1))  # noqa: DTZ001 (Kusto's times are UTC)
    return str(translated), tuple(translated.parameters)


def _cell(value: object) -> object:
    return json.dumps(dict(value)) if isinstance(value, Mapping) else value
