"""The doctor's parts: the redactor, the reader of schedules, the runner and the report."""

import io
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from doctor import report
from doctor.check import Check, check
from doctor.checks_graph import roles_of
from doctor.checks_schedule import longest_gap
from doctor.finding import Fault, Finding, Severity
from doctor.probe import make_client
from doctor.redactor import Redactor
from doctor.runner import CHECKS, CheckResult, run_checks
from doctor.target import Options, Target
from local.host.timers import Schedule
from local.stack.stack import ROOT

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJyb2xlcyI6WyJDYWxscy5Jbml0aWF0ZS5BbGwiXX0.c2ln"
BAD = Fault("bad", "It is bad.", "Correct it.")


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        pytest.param("GRAPH_CLIENT_SECRET", "hush-hush", "hush-hush", id="client secret"),
        pytest.param("GRAPH_CERTIFICATE_PASSWORD", "hush-hush", "hush-hush", id="certificate password"),
        pytest.param("CALLS_STORAGE", "AccountName=a;AccountKey=hush-hush;", "hush-hush", id="account key"),
        pytest.param(
            "AzureWebJobsStorage",
            "BlobEndpoint=https://a;SharedAccessSignature=sv=hush&sig=hush",
            "sv=hush&sig=hush",
            id="shared access signature",
        ),
        pytest.param(
            "APPLICATIONINSIGHTS_CONNECTION_STRING",
            "InstrumentationKey=hush-hush;A=b",
            "hush-hush",
            id="instrumentation key",
        ),
        pytest.param("LOCAL_FUNCTION_KEY", "hush-hush", "hush-hush", id="function key"),
        pytest.param("ANYTHING", TOKEN, TOKEN, id="token in any setting"),
        pytest.param("ANYTHING", "whsec_aHVzaC+hush/==", "whsec_aHVzaC+hush/==", id="secret for signatures"),
    ],
)
def test_a_value_that_may_be_secret_is_redacted(name: str, value: str, hidden: str) -> None:
    redactor = Redactor({name: value})
    assert hidden not in redactor.redact(f"the whole {value}, and its part {hidden}")


def test_a_value_that_is_not_secret_is_printed() -> None:
    text = "GRAPH_CLOUD is global; CALLS_STORAGE is UseDevelopmentStorage=true"
    assert Redactor({"GRAPH_CLOUD": "global", "CALLS_STORAGE": "UseDevelopmentStorage=true"}).redact(text) == text


def test_roles_are_read_from_a_token_and_malformed_tokens_have_none() -> None:
    assert roles_of(TOKEN) == {"Calls.Initiate.All"}
    assert [roles_of(text) for text in ("", "a.b.c", "a.W10.c", "a.eyJyb2xlcyI6M30.c")] == [frozenset()] * 4


@pytest.mark.parametrize(
    ("expression", "gap"),
    [
        pytest.param("0 */15 * * * *", timedelta(minutes=15), id="every 15 minutes"),
        pytest.param("0 0,20 * * * *", timedelta(minutes=60 - 20), id="from minute 20 to the next hour"),
        pytest.param("*/30 * * * * *", timedelta(seconds=30), id="every 30 seconds"),
        pytest.param("0 59 23 * * *", timedelta(days=1), id="once a day"),
        # Friday 18:55 to Monday 08:00: two days from Friday to Sunday 18:55, then 13 h 5 min.
        pytest.param("0 */5 8-18 * * 1-5", timedelta(days=2, hours=13, minutes=5), id="over a weekend"),
    ],
)
def test_longest_gap_is_the_longest_time_between_two_runs(expression: str, gap: timedelta) -> None:
    assert longest_gap(Schedule.of(expression, function="timer"), timedelta(minutes=45)) == gap


@check("breaks", "Does it break?", BAD)
async def breaks(_target: Target) -> AsyncIterator[Finding]:
    yield BAD.found("found before the error")
    raise ZeroDivisionError("hush-hush")


@check("finds nothing", "Does it find nothing?", BAD)
async def finds_nothing(_target: Target) -> AsyncIterator[Finding]:
    nothing: tuple[Finding, ...] = ()
    for finding in nothing:
        yield finding


async def test_a_check_that_fails_names_the_error_and_does_not_stop_others() -> None:
    broken, healthy = await _results(breaks, finds_nothing)
    assert (broken.severity, healthy.severity) == (Severity.FAIL, Severity.OK)
    assert [each.severity for each in broken.findings] == [Severity.FAIL, Severity.SKIP]
    assert "unexpected ZeroDivisionError (" in broken.findings[1].message
    assert "hush-hush" not in broken.findings[1].message


async def test_colours_are_printed_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    results = await _results(breaks)
    assert "\x1b[31mFAIL \x1b[0m bad: found" in _printed(results, _Terminal())
    assert "\x1b[" not in _printed(results, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in _printed(results, _Terminal())


def test_names_are_unique_and_in_lower_case() -> None:
    names = [each.name for each in CHECKS]
    assert sorted(set(names)) == sorted(names)
    faults = {fault.name: fault for each in CHECKS for fault in each.faults}
    assert all(fault is faults[fault.name] for each in CHECKS for fault in each.faults), "two faults have one name"
    assert all(name == name.lower() and " " not in name for name in faults)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def _results(*checks: Check) -> list[CheckResult]:
    async with make_client() as client:
        return await run_checks(Target(Options(ROOT), {}, client), checks)


def _printed(results: list[CheckResult], out: io.StringIO) -> str:
    report.as_text(results, Redactor({}), out, verbose=False)
    return out.getvalue()
