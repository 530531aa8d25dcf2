"""The local host's timer triggers."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.host.errors import HostError
from local.host.timers import Schedule
from tests.local.host_app import running, write_app

SATURDAY = datetime(2026, 11, 21, 8, 7, 3, 500, UTC)


@pytest.mark.parametrize(
    ("expression", "next_time"),
    [
        pytest.param("0 */15 * * * *", "2026-11-21T08:15:00", id="every 15 minutes"),
        pytest.param("*/15 * * * *", "2026-11-21T08:15:00", id="five fields"),
        pytest.param("* * * * * *", "2026-11-21T08:07:04", id="every second"),
        pytest.param("30 7 8 * * *", "2026-11-21T08:07:30", id="daily with seconds"),
        pytest.param("0 0 12 * * 1-5", "2026-11-23T12:00:00", id="weekdays, from a Saturday"),
        # The next first of a month that is a Monday: both fields of the day must match.
        pytest.param("0 0 9 1 * MON", "2027-02-01T09:00:00", id="day of month and day of week"),
    ],
)
def test_a_schedule_has_seconds_first_and_is_in_utc(expression: str, next_time: str) -> None:
    assert Schedule.of(expression, function="tick").after(SATURDAY).isoformat() == f"{next_time}+00:00"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("@hourly", id="nickname"),
        pytest.param("00:00:10", id="time span"),
        pytest.param("0 0 0 31 2 *", id="31 February"),
        pytest.param("0 0 0 L * *", id="last day of month"),
        pytest.param("0 0 * * * * *", id="seven fields"),
        pytest.param("61 * * * * *", id="second 61"),
    ],
)
def test_a_schedule_that_azure_refuses_is_refused(text: str) -> None:
    with pytest.raises(HostError, match=r"function tick: .* is not an NCRONTAB expression"):
        Schedule.of(text, function="tick")


@pytest.mark.parametrize(
    ("expression", "monitored"),
    [pytest.param("0 * * * * *", True, id="every minute"), pytest.param("*/30 * * * * *", False, id="every 30 s")],
)
def test_only_schedules_of_a_minute_or_longer_have_a_status(expression: str, monitored: bool) -> None:
    assert Schedule.of(expression, function="tick").monitored is monitored


def test_a_timer_fires_by_a_schedule_from_the_settings(tmp_path: Path) -> None:
    write_app(
        tmp_path,
        """
        app = func.FunctionApp()

        @app.timer_trigger(arg_name="timer", schedule="%EVERY%")
        async def tick(timer: func.TimerRequest) -> None:
            logging.info("ticked", extra={"late": timer.past_due, "status": timer.schedule_status})
        """,
    )
    (tmp_path / "local.settings.json").write_text('{"IsEncrypted": false, "Values": {"EVERY": "* * * * * *"}}')
    with running(tmp_path) as host:
        host.child.wait_for("info root ticked late=False status={}")
        first = host.child.wait_for(r"^(\S+) info local.host invocation.finished function=tick result=succeeded")[1]
        host.child.wait_for(rf"^(?!{first}).* info local.host invocation.finished function=tick result=succeeded")


def test_the_start_up_run_comes_first_and_runs_never_overlap(tmp_path: Path) -> None:
    write_app(
        tmp_path,
        """
        app = func.FunctionApp()
        runs = []

        @app.timer_trigger(arg_name="timer", schedule="* * * * * *", run_on_startup=True)
        def tick(timer: func.TimerRequest) -> None:
            runs.append(len(runs) + 1)
            logging.info("in %s", runs[-1])
            time.sleep(1.3)
            logging.info("out %s", runs[-1])
        """,
    )
    with running(tmp_path) as host:
        host.child.wait_for("root in 3")
        order = re.findall(r"root (in|out) (\d)", host.child.output)
    assert order == [("in", "1"), ("out", "1"), ("in", "2"), ("out", "2"), ("in", "3")]


def test_a_timer_of_a_minute_or_longer_gets_its_status(tmp_path: Path) -> None:
    write_app(
        tmp_path,
        """
        app = func.FunctionApp()

        @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
        async def tick(timer: func.TimerRequest) -> None:
            logging.info("status", extra={"status": timer.schedule_status, "schedule": timer.schedule})
        """,
    )
    with running(tmp_path) as host:
        line = host.child.wait_for("root status .*").string
    assert "'Last': '0001-01-01T00:00:00'" in line
    assert "-01-01T00:00:00+00:00'" in line
    assert "{'AdjustForDST': True}" in line


def test_a_timer_that_returns_a_value_fails_as_it_does_in_azure(tmp_path: Path) -> None:
    write_app(
        tmp_path,
        """
        app = func.FunctionApp()

        @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
        async def tick(timer: func.TimerRequest):
            return 1
        """,
    )
    with running(tmp_path) as host:
        host.child.wait_for("function=tick result=failed .*without a .return binding returned a non-None value")
