"""The local host: timer triggers."""

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
        ("0 */15 * * * *", "2026-11-21T08:15:00"),
        ("*/15 * * * *", "2026-11-21T08:15:00"),
        ("* * * * * *", "2026-11-21T08:07:04"),
        ("30 7 8 * * *", "2026-11-21T08:07:30"),
        ("0 0 12 * * 1-5", "2026-11-23T12:00:00"),
        ("0 0 9 1 * MON", "2027-02-01T09:00:00"),  # the first of a month that is a Monday, not either of them
    ],
)
def test_a_schedule_is_read_seconds_first_and_in_utc(expression: str, next_time: str) -> None:
    assert Schedule.of(expression, function="tick").after(SATURDAY).isoformat() == f"{next_time}+00:00"


@pytest.mark.parametrize(
    "text", ["", "@hourly", "00:00:10", "0 0 0 31 2 *", "0 0 0 L * *", "0 0 * * * * *", "61 * * * * *"]
)
def test_what_azure_would_refuse_as_a_schedule_is_refused(text: str) -> None:
    with pytest.raises(HostError, match=r"function tick: .* is no NCRONTAB expression"):
        Schedule.of(text, function="tick")


@pytest.mark.parametrize(("expression", "monitored"), [("0 * * * * *", True), ("*/30 * * * * *", False)])
def test_only_schedules_of_a_minute_or_longer_have_a_status(expression: str, monitored: bool) -> None:
    assert Schedule.of(expression, function="tick").monitored is monitored


def test_a_timer_fires_each_second_by_a_schedule_from_the_settings(tmp_path: Path) -> None:
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


def test_a_run_on_start_up_comes_first_and_runs_never_overlap(tmp_path: Path) -> None:
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
        said = re.findall(r"root (in|out) (\d)", host.child.output)
    assert said == [("in", "1"), ("out", "1"), ("in", "2"), ("out", "2"), ("in", "3")]


def test_a_minutely_timer_is_told_its_status(tmp_path: Path) -> None:
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
