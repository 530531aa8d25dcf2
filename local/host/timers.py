"""Timer triggers: NCRONTAB schedules in UTC, one run at a time."""

import asyncio
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from azure_functions_runtime.bindings.datumdef import Datum
from croniter import CroniterError, croniter

from local.host.errors import HostError
from local.host.functions import Function
from local.host.worker import Worker

# NCRONTAB allows digits, * , - / and three-letter names. croniter alone would accept more (@daily, L, #).
_NCRONTAB = re.compile(r"(?:(?:[\d*,\-/]|[a-z]{3})+(?: |$)){6}", re.IGNORECASE)
_FIELDS = 6
_SAMPLED_RUNS = 10
_MIN_MONITORED_INTERVAL = timedelta(minutes=1)  # webjobs-sdk-extensions, TimerListener
_NEVER = "0001-01-01T00:00:00"  # .NET's DateTime.MinValue
_MAX_SLEEP = timedelta(minutes=1)  # then the clock is read again: it jumps when a laptop wakes up


@dataclass(frozen=True, slots=True)
class Schedule:
    """An NCRONTAB schedule: six fields, seconds first, such as `0 */15 * * * *`.

    With five fields the seconds are 0. A day must match both the day of the month and the day of the week.
    """

    expression: str

    @classmethod
    def of(cls, text: str, *, function: str) -> "Schedule":
        """Parse an NCRONTAB expression.

        Raises
        ------
        HostError
            The text is not an NCRONTAB expression, or never comes due. Time spans (`00:00:10`) are refused, as on the
            Flex Consumption plan.
        """
        fields = text.split()
        schedule = cls(" ".join(["0", *fields] if len(fields) == _FIELDS - 1 else fields))
        if not schedule._is_valid():
            raise HostError(
                f"function {function}: {text!r} is not an NCRONTAB expression: use six fields,"
                " seconds first, such as 0 */15 * * * *"
            )
        return schedule

    def after(self, moment: datetime) -> datetime:
        """Return the first occurrence after this moment, in UTC."""
        found = croniter(self.expression, moment, ret_type=datetime, second_at_beginning=True, day_or=False)
        return found.get_next(datetime)

    @property
    def monitored(self) -> bool:
        """True if the platform keeps a status for the timer: it fires at most once a minute."""
        times = [datetime.now(UTC)]
        for _ in range(_SAMPLED_RUNS):
            times.append(self.after(times[-1]))
        return all(later - earlier >= _MIN_MONITORED_INTERVAL for earlier, later in pairwise(times[1:]))

    def _is_valid(self) -> bool:
        if not _NCRONTAB.fullmatch(self.expression):
            return False
        try:
            self.after(datetime.now(UTC))
        except (ValueError, CroniterError):
            return False
        return True


class Timer:
    """Fires one function by its schedule. Occurrences during a run cause one more run, right after it."""

    def __init__(self, function: Function, worker: Worker) -> None:
        self._function = function
        self._worker = worker
        self._schedule = Schedule.of(function.trigger.schedule or "", function=function.name)
        self._monitored = function.trigger.use_monitor and self._schedule.monitored
        self._last: datetime | None = None
        self._due = self._schedule.after(datetime.now(UTC))

    @property
    def name(self) -> str:
        """The function's name."""
        return self._function.name

    async def run_by_hand(self, _text: str) -> None:
        """Run the function now, even while another run is in progress. The schedule does not change."""
        await self._worker.invoke(self._function, self.value())

    async def run(self, stopping: asyncio.Event) -> None:
        """Fire until the host stops. A run in progress finishes first."""
        if self._function.trigger.run_on_startup:
            await self._fire()
        while not await self._stopped_before_due(stopping):
            await self._fire()

    def value(self) -> Datum:
        """Return the input of the function, the host's TimerInfo."""
        status = {
            "Last": self._last.isoformat() if self._last else _NEVER,
            "Next": self._due.isoformat(),
            "LastUpdated": self._last.isoformat() if self._last else _NEVER,
        }
        info = {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": status if self._monitored else None,
            "IsPastDue": False,
        }
        return Datum(json.dumps(info), "json")

    async def _fire(self) -> None:
        started = datetime.now(UTC)
        await self._worker.invoke(self._function, self.value())
        self._last = started
        self._due = self._schedule.after(started)

    async def _stopped_before_due(self, stopping: asyncio.Event) -> bool:
        while not stopping.is_set() and (wait := (self._due - datetime.now(UTC)).total_seconds()) > 0:
            try:
                await asyncio.wait_for(stopping.wait(), min(wait, _MAX_SLEEP.total_seconds()))
            except TimeoutError:
                continue
        return stopping.is_set()
