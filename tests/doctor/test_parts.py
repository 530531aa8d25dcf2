"""The doctor's parts: what hides secrets, what reads a schedule, what makes a check safe to run."""

import io
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from doctor import report
from doctor.check import Check, check
from doctor.checks_graph import roles_of
from doctor.checks_schedule import longest_gap
from doctor.examination import CHECKS, Result, examine
from doctor.finding import Fault, Finding, Mark
from doctor.patient import Options, Patient
from doctor.probe import make_client
from doctor.veil import Veil
from local.host.timers import Schedule
from local.stack.stack import ROOT

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJyb2xlcyI6WyJDYWxscy5Jbml0aWF0ZS5BbGwiXX0.c2ln"
BAD = Fault("bad", "It is bad.", "Make it good.")


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("GRAPH_CLIENT_SECRET", "hush-hush", "hush-hush"),
        ("GRAPH_CERTIFICATE_PASSWORD", "hush-hush", "hush-hush"),
        ("CALLS_STORAGE", "AccountName=a;AccountKey=hush-hush;", "hush-hush"),
        ("AzureWebJobsStorage", "BlobEndpoint=https://a;SharedAccessSignature=sv=hush&sig=hush", "sv=hush&sig=hush"),
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "InstrumentationKey=hush-hush;A=b", "hush-hush"),
        ("LOCAL_FUNCTION_KEY", "hush-hush", "hush-hush"),
        ("ANYTHING", TOKEN, TOKEN),
    ],
)
def test_a_value_that_may_be_secret_is_hidden_wherever_it_stands(name: str, value: str, hidden: str) -> None:
    veil = Veil({name: value})
    assert hidden not in veil.over(f"no {value}, nor {hidden} alone")


def test_what_is_no_secret_is_left_to_be_read() -> None:
    text = "GRAPH_CLOUD is global; CALLS_STORAGE is UseDevelopmentStorage=true"
    assert Veil({"GRAPH_CLOUD": "global", "CALLS_STORAGE": "UseDevelopmentStorage=true"}).over(text) == text


def test_the_roles_of_a_token_are_read_and_of_rubbish_there_are_none() -> None:
    assert roles_of(TOKEN) == {"Calls.Initiate.All"}
    assert [roles_of(text) for text in ("", "a.b.c", "a.W10.c", "a.eyJyb2xlcyI6M30.c")] == [frozenset()] * 4


@pytest.mark.parametrize(
    ("expression", "gap"),
    [
        ("0 */15 * * * *", timedelta(minutes=15)),
        ("0 0,20 * * * *", timedelta(minutes=40)),
        ("*/30 * * * * *", timedelta(seconds=30)),
        ("0 59 23 * * *", timedelta(days=1)),
        ("0 */5 8-18 * * 1-5", timedelta(days=2, hours=13, minutes=5)),
    ],
)
def test_the_longest_time_between_two_runs_is_found(expression: str, gap: timedelta) -> None:
    assert longest_gap(Schedule.of(expression, function="timer"), timedelta(minutes=45)) == gap


@check("breaks", "Does it break?", BAD)
async def breaks(_patient: Patient) -> AsyncIterator[Finding]:
    yield BAD.found("seen before it broke")
    raise ZeroDivisionError("hush-hush")


@check("holds", "Does it hold?", BAD)
async def holds(_patient: Patient) -> AsyncIterator[Finding]:
    nothing: tuple[Finding, ...] = ()
    for finding in nothing:
        yield finding


async def test_a_check_that_breaks_says_where_and_holds_up_no_other() -> None:
    broken, held = await _examined(breaks, holds)
    assert (broken.mark, held.mark) == (Mark.FAIL, Mark.OK)
    assert [each.mark for each in broken.findings] == [Mark.FAIL, Mark.SKIP]
    assert "unexpected ZeroDivisionError (" in broken.findings[1].what
    assert "hush-hush" not in broken.findings[1].what


async def test_colour_is_for_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    results = await _examined(breaks)
    assert "\x1b[31mFAIL \x1b[0m bad: seen" in _printed(results, _Terminal())
    assert "\x1b[" not in _printed(results, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in _printed(results, _Terminal())


def test_names_are_unique_and_stable_in_form() -> None:
    names = [each.name for each in CHECKS]
    assert sorted(set(names)) == sorted(names)
    faults = {fault.name: fault for each in CHECKS for fault in each.faults}
    assert all(fault is faults[fault.name] for each in CHECKS for fault in each.faults), "two faults of one name"
    assert all(name == name.lower() and " " not in name for name in faults)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def _examined(*checks: Check) -> list[Result]:
    async with make_client() as client:
        return await examine(Patient(Options(ROOT), {}, client), checks)


def _printed(results: list[Result], out: io.StringIO) -> str:
    report.as_text(results, Veil({}), out, verbose=False)
    return out.getvalue()
