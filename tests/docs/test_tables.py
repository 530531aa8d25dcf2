"""The tables of the documents agree with the code."""

import ast
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.config.settings import Settings, setting_name
from shared.domain.leases import Lease, RenewalFailure, Timing, Watermark
from shared.domain.termination import catalogue
from tests.docs.documents import code, documents, read, rows, section
from tools.docs_tables import BLOCK, EVENT_EXAMPLES, GROUPS, GUARDS, ROOT, ROW_KINDS, default_of, renewed

SETTINGS = {setting_name(name): field for name, field in Settings.model_fields.items()}
DOCS = sorted((ROOT / "docs").glob("*.md"))
NO_GUARDS = {  # settings whose default neither opens nor shuts anything
    *("graph_app_id", "graph_apps", "graph_tenant_id", "azure_client_id", "graph_record_api", "graph_timeout"),
    *("graph_requests_per_second", "keep_alive_concurrency", "keep_alive_schedule", "lease_duration", "sweep_budget"),
    *("relay_budget", "relay_sync_budget"),
    *("sweep_fan_out_threshold", "calls_storage_table_service_uri", "calls_storage_queue_service_uri"),
    *("calls_storage_credential", "calls_storage_client_id"),
}


def _platform_settings() -> set[str]:
    return {code(row[0])[0] for row in rows(section(read("docs/settings.md"), "Settings of the platform"))}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_a_generated_table_is_as_the_code_makes_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == renewed(text), "run: .venv/bin/python -m tools.docs_tables"


def test_every_table_that_can_be_generated_is_in_one_document() -> None:
    there = sorted(found["name"] for path in DOCS for found in BLOCK.finditer(path.read_text(encoding="utf-8")))
    assert there == sorted(
        [
            *GROUPS,
            *(f"row-{kind}" for kind in ROW_KINDS),
            "apps",
            "attacks",
            "categories",
            "code-classes",
            "codes",
            "dependencies",
            "entra-errors",
            "entra-errors-for-audience",
            "event-envelope",
            *(f"event-{example}" for example in EVENT_EXAMPLES.values()),
            "fault-owners",
            "guards",
            "keep-alive-failures",
            "log-events",
            "metrics",
            "performance-cold-start",
            "performance-goals",
            "performance-growth",
            "performance-hang-up",
            "performance-keep-alive",
            "performance-outage",
            "performance-profile",
            "performance-run",
            "performance-relay",
            "performance-relay-goals",
            "performance-relay-run",
            "performance-sharing-goals",
            "performance-sharing-run",
            "performance-tenants",
            "performance-transactions",
            "performance-webhook",
            "posted-codes",
            "relay-targets",
            "sources",
            "telephone-codes",
            "termination-reasons",
        ]
    )


def test_deployed_licences_require_only_attribution() -> None:
    """MPL-2.0 also requires publishing changes to its own files. This project changes none."""
    words = {word for row in rows(read("docs/dependencies.md")) for word in re.split(" AND | OR ", row[2])}
    known = {
        "Apache-2.0",
        "BSD License",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT License",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
    }
    assert len(words) > 3
    assert words - known == set()


def test_every_setting_is_in_one_group() -> None:
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(Settings.model_fields)


def test_each_setting_guards_something_or_is_known_to_guard_nothing() -> None:
    """A new setting has `guards(…)`, with what its default keeps shut, or is one of NO_GUARDS."""
    assert sorted([*GUARDS, *NO_GUARDS]) == sorted(Settings.model_fields)


def test_each_setting_has_a_description() -> None:
    assert [name for name, field in SETTINGS.items() if not field.description] == []


def test_the_readmes_settings_exist_with_these_defaults() -> None:
    documented = {code(row[0])[0]: row[1] for row in rows(section(read("README.md"), "Deploy"))}
    assert documented == {
        name: default_of(SETTINGS[name]) if name in SETTINGS else "no such setting" for name in documented
    }


def test_the_readme_names_every_setting_that_is_required() -> None:
    documented = {code(row[0])[0] for row in rows(section(read("README.md"), "Deploy"))}
    assert {name for name, field in SETTINGS.items() if field.is_required()} <= documented


def test_the_example_of_local_settings_sets_what_exists() -> None:
    example = json.loads(read("local.settings.example.json"))["Values"]
    assert set(example) <= set(SETTINGS) | _platform_settings()


def test_the_timers_setting_is_in_the_example() -> None:
    assert "%KEEP_ALIVE_SCHEDULE%" in read("functions/keep_alive.py")
    assert "KEEP_ALIVE_SCHEDULE" in json.loads(read("local.settings.example.json"))["Values"]


def test_each_codes_category_and_source_are_documented() -> None:
    text = read("docs/termination-codes.md")
    categories = {code(row[0])[0] for row in rows(section(text, "Categories"))}
    sources = {code(row[0])[0] for row in rows(section(text, "Sources"))}
    entries, named = catalogue().entries, catalogue().named
    assert {entry.category for entry in entries} | {reason.category for reason in named} <= categories
    assert {entry.source for entry in entries} | {reason.source for reason in named} <= sources


def test_a_search_for_a_code_finds_its_whole_explanation() -> None:
    """People search for both spellings: the members of resultInfo, and the DiagCode in its message."""
    text = read("docs/termination-codes.md")
    for entry in catalogue().entries:
        if entry.subcode is None:
            wanted = f"| `{entry.code}` alone |"
        elif entry.code is None:
            wanted = f"| any/`{entry.subcode}` |"
        else:
            wanted = f"| `{entry.code}/{entry.subcode}` `{entry.code}#{entry.subcode}` |"
        line = next(line for line in text.splitlines() if line.startswith(wanted))
        symptom = entry.symptom or catalogue().symptoms[entry.category]
        for said in (symptom, entry.reason, entry.action, f"`{entry.fault_owner}`", entry.evidence):
            assert said in line
        if entry.message:
            assert f"/{entry.subcode}: {entry.message}" in text


def test_the_lines_of_a_calls_story_are_in_the_architecture() -> None:
    documented = {
        code(row[0])[0] for row in rows(section(read("docs/architecture.md"), "The event log")) if code(row[0])
    }
    kinds = {kind for path in _modules("shared") for kind in _kinds(path)}
    kinds.remove("otherNotified")  # made, but not kept: participants come and go
    assert len(kinds) > 5
    assert kinds == documented


def test_the_example_of_the_watermark_is_right() -> None:
    text = read("docs/keeping.md")
    example = text.split("<!-- example: watermark 12:00 -->\n")[1].split("\n\n")[0]
    watermark = Watermark(_at("12:00"), _at("12:00"))
    cases = rows(example)
    assert len(cases) == 5
    for name, known, started, own, failing, last, deadline, _ in cases:
        lease = Lease(name, "tenant", _at(known), _at(started), None if own == "none" else _at(own))
        if failing == "yes":
            lease = _failing(lease)
        assert lease.last_renewal(watermark, Timing()) == _at(last), name
        assert lease.expires_at(watermark, Timing()) == _at(deadline), name


def test_the_intervals_of_the_page_on_keeping_are_those_of_the_code() -> None:
    timing, minute = Timing(), Timing().minute
    documented = [row[1] for row in rows(section(read("docs/keeping.md"), "A sweep"))]
    retries = ", ".join(f"{timing.retry_delay(attempt, timing.lease) // minute}" for attempt in range(1, 6))
    spans = (
        timing.sweep_fresh_for,
        timing.max_clock_skew,
        timing.watermark_blind_window,
        timing.not_found_grace,
        timing.sweep_stale_after,
        timing.renew_at_once_below,
        timing.at_risk_after,
    )
    assert documented == [*(str(span // minute) for span in spans), f"{retries}, …"]


def _failing(lease: Lease) -> Lease:
    return replace(lease, failing=RenewalFailure(_at("12:00"), 1, _at("12:01"), "unavailable"))


def _at(clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, 11, 21, hour, minute, tzinfo=UTC)


def _modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _kinds(path: Path) -> set[str]:
    """The first argument of every `Event("…")` and `_notification_event("…")` of a module."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id in {"Event", "_notification_event"}
        and call.args
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def test_there_are_documents() -> None:
    assert {"README.md", "architecture.md", "api.md"} <= {path.name for path in documents()}
