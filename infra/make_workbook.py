"""Writes `infra/workbook.json` from the query files: `python -m infra.make_workbook`. A test compares the two."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
QUERIES = FOLDER / "queries"
WORKBOOK = FOLDER / "workbook.json"
PARTS = (
    ("calls-safe-now", "Are calls safe now?", "table"),
    ("why-calls-end", "Why calls end", "table"),
    ("one-call", "One call", "table"),
    ("webhook-health", "Webhook health", "barchart"),
)
HOUR = 60 * 60 * 1000  # milliseconds, the unit of the workbook format
DAY = 24 * HOUR
SPANS = (HOUR, 4 * HOUR, 12 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY)
WORKSPACE_ID = "WORKSPACE_ID"  # monitoring.bicep replaces it by the id of the workspace


def workbook() -> str:
    """Return the workbook in the JSON format of Azure Monitor."""
    items = [_parameters(), *(_query(*part) for part in PARTS)]
    document = {
        "version": "Notebook/1.0",
        "items": items,
        "fallbackResourceIds": [WORKSPACE_ID],
        "$schema": "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json",
    }
    return json.dumps(document, indent=2) + "\n"


def _parameters() -> dict[str, object]:
    parameters = [
        {
            "version": "KqlParameterItem/1.0",
            "name": "TimeRange",
            "label": "Time range",
            "type": 4,
            "value": {"durationMs": DAY},
            "typeSettings": {"selectableValues": [{"durationMs": span} for span in SPANS], "allowCustom": True},
        },
        # The text is inserted into the query unchanged. A quote in it changes the query, but only for the reader who
        # typed it: the query has the reader's rights, and KQL changes no data.
        {"version": "KqlParameterItem/1.0", "name": "CallId", "label": "Call id", "type": 1, "value": ""},
    ]
    return {
        "type": 9,
        "name": "parameters",
        "content": {"version": "KqlParameterItem/1.0", "style": "pills", "parameters": parameters},
    }


def _query(name: str, title: str, visualization: str) -> dict[str, object]:
    content = {
        "version": "KqlItem/1.0",
        "query": (QUERIES / f"{name}.kql").read_text(encoding="utf-8"),
        "title": title,
        "queryType": 0,
        "resourceType": "microsoft.operationalinsights/workspaces",
        "timeContextFromParameter": "TimeRange",
        "visualization": visualization,
        "size": 0,
    }
    return {"type": 3, "name": name, "content": content}


if __name__ == "__main__":
    WORKBOOK.write_text(workbook(), encoding="utf-8")
