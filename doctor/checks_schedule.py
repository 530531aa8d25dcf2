"""The timer: whether it fires often enough, and whether the time limits let a sweep end."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from croniter import croniter

from doctor.check import check, fine
from doctor.finding import CannotCheck, Fault, Finding, Mark
from doctor.patient import Patient, now
from local.host.errors import HostError
from local.host.settings import disabled, host_options
from local.host.timers import Schedule
from shared.domain.leases import LEASE

NAME = "KEEP_ALIVE_SCHEDULE"
TIMER = "keep_alive_timer"
OTHERS = ("keep_alive_queue", "receive_notifications", "keep_alive_now")

MISSING = Fault(
    "schedule-missing",
    "KEEP_ALIVE_SCHEDULE is not set in the app: the timer's binding names it, so that the timer is not even indexed.",
    "Set KEEP_ALIVE_SCHEDULE to 0 */15 * * * *, also where that is the default of the app's own settings.",
)
UNREADABLE = Fault(
    "schedule-unreadable",
    "KEEP_ALIVE_SCHEDULE is no NCRONTAB expression, or one that never comes due.",
    "Six fields, seconds first, UTC: 0 */15 * * * *",
)
TOO_LONG = Fault(
    "schedule-too-long",
    "The timer leaves calls alone for longer than the 45 minutes of a lease: Graph ends them with 408/8537.",
    "0 */15 * * * *: two runs may then fail, and no call is lost.",
)
SPARSE = Fault(
    "schedule-sparse",
    "The timer fires less often than twice in a lease: one run that fails costs calls their life.",
    "0 */15 * * * *: two runs may then fail, and no call is lost.",
    Mark.WARN,
)
ZONE = Fault(
    "time-zone-set",
    "WEBSITE_TIME_ZONE is set: Linux on the Flex Consumption plan does not know it, and the timer then does not fire.",
    "Remove it; the schedule is in UTC.",
    Mark.WARN,
)
LEASE_SHORT = Fault(
    "lease-shortened",
    "LEASE_DURATION is not 45 minutes, but Graph is the real one: all deadlines and alarms are then wrong.",
    "Remove LEASE_DURATION; it is for a simulator whose time is sped up.",
)
TIMEOUT_SHORT = Fault(
    "function-timeout-short",
    "functionTimeout of host.json is shorter than a sweep may take: the platform kills it in the middle.",
    "Make SWEEP_BUDGET and GRAPH_TIMEOUT together shorter than functionTimeout.",
)
TIMEOUT_LONG = Fault(
    "function-timeout-long",
    "functionTimeout of host.json is longer than the timer's interval: timers do not overlap, so that a sweep that "
    "hangs keeps the next ones from running.",
    'Set "functionTimeout": "00:05:00" in host.json.',
    Mark.WARN,
)
TIMER_OFF = Fault(
    "timer-disabled",
    "The timer is switched off by a setting.",
    "Remove AzureWebJobs.keep_alive_timer.Disabled (or AzureWebJobs_keep_alive_timer_Disabled).",
)
FUNCTION_OFF = Fault(
    "function-disabled",
    "A function that Call Keeper needs is switched off by a setting.",
    "Remove the setting AzureWebJobs.<function>.Disabled.",
)

_WEEK = timedelta(days=8)
_TWO_HOURS = timedelta(hours=2)


@check("schedule", "Does the timer fire often enough?", MISSING, UNREADABLE, TOO_LONG, SPARSE, ZONE)
async def schedule(patient: Patient) -> AsyncIterator[Finding]:
    """Looks at eight days of the schedule, from now."""
    text, lease = patient.value(NAME), _lease(patient)
    if patient.value("WEBSITE_TIME_ZONE"):
        yield ZONE.found("WEBSITE_TIME_ZONE is set")
    if text is None:
        yield MISSING.found(f"{NAME} is not set")
        return
    try:
        timer = Schedule.of(text, function=TIMER)
    except HostError:
        yield UNREADABLE.found(f"{NAME} is no NCRONTAB expression that comes due")
        return
    longest = longest_gap(timer, lease)
    if longest > lease:
        yield TOO_LONG.found(f"calls would be left alone for {_minutes(longest)}; a lease has {_minutes(lease)}")
    elif longest > lease / 2:
        yield SPARSE.found(f"calls would be left alone for {_minutes(longest)}; a lease has {_minutes(lease)}")
    yield fine("schedule", f"at most {_minutes(longest)} apart; next at {_next(timer)} UTC")


@check("timing", "Do the time limits fit each other?", LEASE_SHORT, TIMEOUT_SHORT, TIMEOUT_LONG)
async def timing(patient: Patient) -> AsyncIterator[Finding]:
    """Compares SWEEP_BUDGET, functionTimeout, the schedule, and the lease."""
    settings, limit = patient.settings, _function_timeout(patient)
    if patient.in_real_cloud and settings.lease_duration != LEASE:
        yield LEASE_SHORT.found(f"LEASE_DURATION is {_minutes(settings.lease_duration)}, and Graph is the real one")
    longest = settings.sweep_budget + settings.graph_timeout
    if limit is not None and longest > limit:
        yield TIMEOUT_SHORT.found(f"a sweep may take {_minutes(longest)}, and functionTimeout is {_minutes(limit)}")
    elif limit is None or limit > settings.lease_duration / 2:
        told = "without end" if limit is None else _minutes(limit)
        yield TIMEOUT_LONG.found(f"functionTimeout is {told}")


@check("switches", "Are the functions switched on?", TIMER_OFF, FUNCTION_OFF)
async def switches(patient: Patient) -> AsyncIterator[Finding]:
    """Each function can be disabled by a setting, which is easily forgotten."""
    if disabled(TIMER, patient.raw):
        yield TIMER_OFF.found(f"{TIMER} is disabled")
    for name in OTHERS:
        if disabled(name, patient.raw):
            yield FUNCTION_OFF.found(f"{name} is disabled")


def longest_gap(timer: Schedule, enough: timedelta) -> timedelta:
    """The longest time between two runs within eight days; exact where it is longer than `enough`.

    Leaps to the last run in every half of that length, so that a schedule that fires every second costs no more.
    """
    runs = croniter(timer.expression, now(), ret_type=datetime, second_at_beginning=True, day_or=False)
    at = runs.get_next()
    hourly = set(timer.expression.split()[2:]) == {"*"}  # every hour is like the one before
    end, longest = at + (_TWO_HOURS if hourly else _WEEK), timedelta(0)
    while at < end:
        following = runs.get_next(start_time=at)
        longest = max(longest, following - at)
        at = max(following, runs.get_prev(start_time=at + enough / 2))
    return longest


def _lease(patient: Patient) -> timedelta:
    try:
        return LEASE if patient.in_real_cloud else patient.settings.lease_duration
    except CannotCheck:
        return LEASE


def _function_timeout(patient: Patient) -> timedelta | None:
    try:
        return host_options(patient.options.root).function_timeout
    except HostError:
        raise CannotCheck("host.json cannot be read (see host-json-wrong)") from None


def _next(timer: Schedule) -> str:
    times = [timer.after(now())]
    while len(times) < 3:  # noqa: PLR2004 enough to see the pattern
        times.append(timer.after(times[-1]))
    return ", ".join(f"{time:%H:%M:%S}" for time in times)


def _minutes(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"  # noqa: PLR2004 a minute
