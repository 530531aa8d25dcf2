"""Checks of the timer: it fires often enough, is enabled, and the time limits let a sweep finish."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from croniter import croniter

from doctor.check import check, note
from doctor.finding import CannotCheck, Fault, Finding, Severity
from doctor.target import Target, now
from local.host.errors import HostError
from local.host.settings import disabled, host_options
from local.host.timers import Schedule
from shared.domain.leases import LEASE

NAME = "KEEP_ALIVE_SCHEDULE"
TIMER = "keep_alive_timer"
_OTHER_FUNCTIONS = ("keep_alive_queue", "receive_notifications", "keep_alive_now")
_RELAY_FUNCTIONS = ("relay_queue", "relay_timer")  # the app has them only if RELAY_TARGETS is set

MISSING = Fault(
    "schedule-missing",
    "KEEP_ALIVE_SCHEDULE is not set in the app. The timer's binding names it, so the host does not load the timer.",
    "Set KEEP_ALIVE_SCHEDULE to 0 */15 * * * *, although that is the default of the app's own settings.",
)
UNREADABLE = Fault(
    "schedule-unreadable",
    "KEEP_ALIVE_SCHEDULE is not an NCRONTAB expression, or it never comes due.",
    "Use six fields, seconds first, in UTC: 0 */15 * * * *",
)
TOO_LONG = Fault(
    "schedule-too-long",
    "The time between two runs of the timer is longer than the 45 minutes of a lease: Graph ends calls with 408/8537.",
    "0 */15 * * * *: two runs may then fail, and no call is lost.",
)
SPARSE = Fault(
    "schedule-sparse",
    "The timer fires less than twice in a lease: if one run fails, leases lapse and Graph ends calls.",
    "0 */15 * * * *: two runs may then fail, and no call is lost.",
    Severity.WARN,
)
ZONE = Fault(
    "time-zone-set",
    "WEBSITE_TIME_ZONE is set. Linux on the Flex Consumption plan does not support it, and the timer does not fire.",
    "Remove it. The schedule is in UTC.",
    Severity.WARN,
)
LEASE_SHORT = Fault(
    "lease-shortened",
    "LEASE_DURATION is not 45 minutes although the app uses the real Graph: all deadlines and alarms are wrong.",
    "Remove LEASE_DURATION. It is for a simulator whose clock runs faster.",
)
TIMEOUT_SHORT = Fault(
    "function-timeout-short",
    "functionTimeout in host.json is shorter than a sweep may take: the platform then kills the sweep.",
    "Make SWEEP_BUDGET and GRAPH_TIMEOUT together shorter than functionTimeout.",
)
TIMEOUT_LONG = Fault(
    "function-timeout-long",
    "functionTimeout in host.json is longer than half a lease. Runs of the timer do not overlap, so a sweep that hangs "
    "prevents the next runs.",
    'Set "functionTimeout": "00:05:00" in host.json.',
    Severity.WARN,
)
TIMER_OFF = Fault(
    "timer-disabled",
    "A setting disables the timer.",
    "Remove AzureWebJobs.keep_alive_timer.Disabled (or AzureWebJobs_keep_alive_timer_Disabled).",
)
FUNCTION_OFF = Fault(
    "function-disabled",
    "A setting disables a function that Call Keeper needs.",
    "Remove the setting AzureWebJobs.<function>.Disabled.",
)

_EIGHT_DAYS = timedelta(days=8)  # a week and a day: schedules repeat each week, also across midnight
_SHOWN_RUNS = 3  # enough to see the pattern
_MINUTE = timedelta(minutes=1)
_TWO_HOURS = timedelta(hours=2)


@check("schedule", "Does the timer fire often enough?", MISSING, UNREADABLE, TOO_LONG, SPARSE, ZONE)
async def schedule(target: Target) -> AsyncIterator[Finding]:
    """Check eight days of the schedule, from now on."""
    text, lease = target.value(NAME), _lease(target)
    if target.value("WEBSITE_TIME_ZONE"):
        yield ZONE.found("WEBSITE_TIME_ZONE is set")
    if text is None:
        yield MISSING.found(f"{NAME} is not set")
        return
    try:
        timer = Schedule.of(text, function=TIMER)
    except HostError:
        yield UNREADABLE.found(f"{NAME} is not an NCRONTAB expression that comes due")
        return
    longest = longest_gap(timer, lease)
    if longest > lease / 2:
        fault = TOO_LONG if longest > lease else SPARSE
        yield fault.found(f"runs are up to {_minutes(longest)} apart; a lease lasts {_minutes(lease)}")
    yield note("schedule", f"runs are at most {_minutes(longest)} apart; next at {_next_runs(timer)} UTC")


@check("timing", "Are the time limits consistent?", LEASE_SHORT, TIMEOUT_SHORT, TIMEOUT_LONG)
async def timing(target: Target) -> AsyncIterator[Finding]:
    """Compare SWEEP_BUDGET and GRAPH_TIMEOUT with functionTimeout, and both with the lease."""
    settings, limit = target.settings, _function_timeout(target)
    if target.in_real_cloud and settings.lease_duration != LEASE:
        yield LEASE_SHORT.found(
            f"LEASE_DURATION is {_minutes(settings.lease_duration)}, but the app uses the real Graph"
        )
    max_sweep = settings.sweep_budget + settings.graph_timeout
    if limit is not None and max_sweep > limit:
        yield TIMEOUT_SHORT.found(f"a sweep may take {_minutes(max_sweep)}, but functionTimeout is {_minutes(limit)}")
    elif limit is None or limit > settings.lease_duration / 2:
        yield TIMEOUT_LONG.found(f"functionTimeout is {'unlimited' if limit is None else _minutes(limit)}")


@check("switches", "Are the functions enabled?", TIMER_OFF, FUNCTION_OFF)
async def switches(target: Target) -> AsyncIterator[Finding]:
    """Look for the settings that disable a function."""
    if disabled(TIMER, target.raw):
        yield TIMER_OFF.found(f"{TIMER} is disabled")
    for name in other_functions(target):
        if disabled(name, target.raw):
            yield FUNCTION_OFF.found(f"{name} is disabled")


def other_functions(target: Target) -> tuple[str, ...]:
    """Return the functions that the app needs besides its timer."""
    return (*_OTHER_FUNCTIONS, *(_RELAY_FUNCTIONS if target.value("RELAY_TARGETS") else ()))


def longest_gap(timer: Schedule, exact_above: timedelta) -> timedelta:
    """Return the longest time between two runs within eight days. It is exact if it is longer than `exact_above`.

    After each run it jumps to the last run within half of `exact_above`, so that a schedule that fires every second
    costs no more steps than others.
    """
    runs = croniter(timer.expression, now(), ret_type=datetime, second_at_beginning=True, day_or=False)
    at = runs.get_next()
    is_hourly = set(timer.expression.split()[2:]) == {"*"}  # all hours are alike, so two of them show all gaps
    end, longest = at + (_TWO_HOURS if is_hourly else _EIGHT_DAYS), timedelta(0)
    while at < end:
        following = runs.get_next(start_time=at)
        longest = max(longest, following - at)
        at = max(following, runs.get_prev(start_time=at + exact_above / 2))
    return longest


def _lease(target: Target) -> timedelta:
    try:
        return LEASE if target.in_real_cloud else target.settings.lease_duration
    except CannotCheck:
        return LEASE


def _function_timeout(target: Target) -> timedelta | None:
    try:
        return host_options(target.options.root).function_timeout
    except HostError:
        raise CannotCheck("host.json cannot be read (see host-json-wrong)") from None


def _next_runs(timer: Schedule) -> str:
    times = [timer.after(now())]
    while len(times) < _SHOWN_RUNS:
        times.append(timer.after(times[-1]))
    return ", ".join(f"{time:%H:%M:%S}" for time in times)


def _minutes(span: timedelta) -> str:
    return f"{span / _MINUTE:g} min" if span >= _MINUTE else f"{span.total_seconds():g} s"
