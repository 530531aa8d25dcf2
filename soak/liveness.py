"""The liveness condition of docs/reliability.md: when a call must not lapse, computed from the fault schedule alone.

It does not use what the keeper did. Otherwise a keeper without a wake-up would excuse the lapses that follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from soak.fault_kinds import MAX_KILL_DELAY, TICK
from soak.fault_schedule import MAX_REDELIVERY, MAX_RETRY_AFTER, TENANTS, FaultSchedule
from soak.intervals import MINUTE, Interval, Intervals, extended, gaps, union
from soak.virtual_graph import LEASE, VirtualCall

SWEEP_FRESH_FOR = 3 * MINUTE
STALE_AFTER = 20 * MINUTE
MESSAGE_DONE = 4 * MINUTE  # until a message is delivered, and its work is done
QUEUE_STALL_AFTER = 5 * MINUTE  # a request sweeps in its own process if the queue did nothing for so long
REQUEST_CHECKS_ALL = 8 * MINUTE  # a request checks one shard of sixteen, once a minute
SWEEP_DONE = 2 * MINUTE  # a sweep without faults
SWEEP_TRIED = 6 * MINUTE  # a sweep until its first retries, if Graph does not answer
MAX_RETRY_PAUSE = 8 * MINUTE  # between two retries
RETRY_SPREAD = 1.5 * MINUTE  # jitter of retries, and the delivery of their message
WAIT_AFTER_429 = MAX_RETRY_AFTER + MINUTE  # the wait that Graph asked for, and the jitter of the calls that waited
WAIT_AFTER_TIMEOUTS = 1.5 * MINUTE  # the backoff of a tenant without answers: a minute, and its jitter
MAX_RETRY_DELAY = 16 * MINUTE  # a lost retry may have been due so late
SWEEP_BUDGET = 4 * MINUTE  # the setting SWEEP_BUDGET
MAX_SHARD_SWEEP = 1.5 * SWEEP_BUDGET  # two ticks are enough for such a shard without the queue
RENEW_AT_ONCE_BELOW = 30 * MINUTE  # a registration renews a call that has less left of its lease


@dataclass(frozen=True, slots=True)
class RenewalPath:
    """One way in which a call is renewed.

    Parameters
    ----------
    name
        As docs/reliability.md names it.
    blocked
        When a fault blocks it.
    window
        The seconds for which it must be open.
    tail
        The seconds at the end of the window in which tables and Graph must answer too.
    """

    name: str
    blocked: Intervals
    window: float
    tail: float


@dataclass(frozen=True, slots=True)
class _Outages:
    """The times in which faults block each part of the service.

    Parameters
    ----------
    tables
        Tables do not answer.
    delivery
        The queue does not answer or does not deliver.
    sending
        As `delivery`, and the queue loses what is sent.
    retries
        As `sending`, and so long after a loss as a lost retry may have been due.
    lost_messages
        The queue loses messages.
    timer_process, timer
        The timer or its process does not run; and its sweeps do nothing, if they leave their work to the queue.
    http, requests
        The process of the requests is dead; and no requests come.
    """

    tables: Intervals
    delivery: Intervals
    sending: Intervals
    retries: Intervals
    lost_messages: Intervals
    timer_process: Intervals
    timer: Intervals
    http: Intervals
    requests: Intervals

    @classmethod
    def of(cls, schedule: FaultSchedule) -> Self:
        """Return the outages of a fault schedule."""
        delivery = union(
            (fault for fault in schedule.storage if fault.target in {"queues", "both"}),
            schedule.queue_stalls,
            _kills(schedule, "queue", MAX_REDELIVERY),
        )
        sending = union(delivery, schedule.queue_loses)
        timer_process = union(schedule.timer_paused, _kills(schedule, "timer", 0))
        http = union(_kills(schedule, "http", 0))
        return cls(
            tables=union(fault for fault in schedule.storage if fault.target in {"tables", "both"}),
            delivery=delivery,
            sending=sending,
            retries=union(delivery, extended(schedule.queue_loses, after=MAX_RETRY_DELAY)),
            lost_messages=schedule.queue_loses,
            timer_process=timer_process,
            # In a fan-out the timer leaves its work to the queue, except stale shards.
            timer=union(timer_process, sending) if _fans_out(schedule) else timer_process,
            http=http,
            requests=union(schedule.no_requests, http),
        )

    @property
    def first_report(self) -> Intervals:
        """No first report of a call gets in, or its message is not handled."""
        return union(self.sending, self.http)


class LivenessCondition:
    """The condition for one run."""

    def __init__(self, schedule: FaultSchedule) -> None:
        outages = _Outages.of(schedule)
        self.skew = 2 * schedule.profile.max_clock_offset  # between two clocks
        self.fresh = SWEEP_FRESH_FOR + self.skew  # a tick skips a shard whose last sweep seems so recent
        self._slot_seconds = schedule.profile.graph_latency / min(schedule.profile.concurrency)
        self.has_queue_faults = bool(schedule.storage.all or schedule.queue_stalls.all)
        self.timer, self.queue = outages.timer, outages.sending
        self.paths = tuple(_renewal_paths(schedule, outages, self.skew))
        self.first_paths: tuple[RenewalPath, ...] = (
            RenewalPath("registration", outages.http, MINUTE, MINUTE),
            RenewalPath("first report without a start", outages.first_report, MESSAGE_DONE, MESSAGE_DONE),
        )
        self._no_answers = {
            tenant: union(outages.tables, map(_with_wait, schedule.graph), map(_with_wait, schedule.tenant[tenant]))
            for tenant in TENANTS
        }

    def find_path(self, tenant: str, start: float, end: float, rank: int = 0, size: int = 1) -> str | None:
        """Return the path that must have renewed a call between `start` and `end`, None if there was none.

        Parameters
        ----------
        tenant
            The tenant of the call.
        start, end
            Seconds since the start of the run.
        rank
            The number of calls in its shard whose lease began earlier: a sweep renews them first.
        size
            The number of calls in its shard.
        """
        work = (rank + 1) * self._slot_seconds
        for path in self.paths:
            ticks = int(work / SWEEP_BUDGET) if path.name == "timer" else 0  # without the queue the rest waits for one
            if path.name == "timer" and size * self._slot_seconds > MAX_SHARD_SWEEP:
                continue
            if self._fits(path, self._no_answers[tenant], (start, end), work + ticks * TICK):
                return path.name
        return None

    def find_first_path(self, call: VirtualCall) -> str | None:
        """Return the path that must have renewed a call when it became known in mid-life, None if there was none.

        These paths begin at that very moment. A registration renews a call that has less than 30 minutes left. Two
        clocks and the record may be wrong, so the condition counts on it only for calls with less: the other paths
        have time enough for the rest.
        """
        limits = (call.registered, RENEW_AT_ONCE_BELOW - self.skew), (call.reported, LEASE)
        for path, (at, max_left) in zip(self.first_paths, limits, strict=True):
            if at is None or not at < call.lapses - path.window or call.lapses - at > max_left:
                continue
            if _is_clear(union(path.blocked, self._no_answers[call.tenant]), at, at + path.window):
                return path.name
        return None

    def count_held(self, seconds: float, *, step: float = 5 * MINUTE) -> tuple[int, int]:
        """Return for how many pairs of moment and tenant a call would have been renewed in time, and of how many."""
        moments = [LEASE + step * number for number in range(int((seconds - LEASE) / step))]
        held = sum(self.find_path(tenant, at - LEASE, at) is not None for at in moments for tenant in TENANTS)
        return held, len(moments) * len(TENANTS)

    def must_find_end(self, tenant: str, start: float, end: float, size: int) -> bool:
        """True if an end must be found: timer, tables and Graph had no fault, and the shard takes a minute at most."""
        return (
            size * self._slot_seconds <= MINUTE
            and _is_clear(self.timer, start, end)
            and _is_clear(self._no_answers[tenant], start, end)
        )

    def is_queue_clear(self, start: float, end: float) -> bool:
        """True if the queue delivered everything from `start` to `end`."""
        return _is_clear(self.queue, start, end)

    @staticmethod
    def _fits(path: RenewalPath, no_answers: Intervals, between: tuple[float, float], longer: float) -> bool:
        window, tail = path.window + longer, path.tail + longer
        for open_from, open_to in gaps(path.blocked, *between):
            if open_to - open_from < window:
                continue
            for answers_from, until in gaps(no_answers, open_from, open_to):
                if until - open_from >= window and until - answers_from >= tail:
                    return True
        return False


def _renewal_paths(schedule: FaultSchedule, outages: _Outages, skew: float) -> Iterator[RenewalPath]:
    """Yield the ways in which a call is renewed under this schedule, in the order of docs/reliability.md."""
    by_timer = TICK + SWEEP_FRESH_FOR + skew + SWEEP_DONE
    by_timer_and_retries = TICK + SWEEP_FRESH_FOR + skew + SWEEP_TRIED
    by_watchdog = STALE_AFTER + skew + MESSAGE_DONE
    by_requests = STALE_AFTER + skew + REQUEST_CHECKS_ALL
    by_retries = MAX_RETRY_PAUSE + RETRY_SPREAD
    requests = union(outages.requests, outages.sending)
    repairs = (
        (union(outages.tables, outages.timer, outages.delivery), by_timer),
        (union(outages.tables, requests), by_requests),
    )
    no_watchdog = _watchdog_lost(outages.lost_messages, repairs, schedule.seconds)
    yield RenewalPath("timer", outages.timer, by_timer, by_timer)
    yield RenewalPath("timer and retries", union(outages.timer, outages.retries), by_timer_and_retries, by_retries)
    yield RenewalPath("watchdog", union(outages.retries, no_watchdog), by_watchdog, by_retries)
    yield RenewalPath("requests", union(requests, outages.retries), by_requests, by_retries)
    if _fans_out(schedule):
        alone = STALE_AFTER + skew + TICK + SWEEP_DONE
        yield RenewalPath("timer alone", outages.timer_process, alone, alone)
    alone = STALE_AFTER + QUEUE_STALL_AFTER + skew + REQUEST_CHECKS_ALL + SWEEP_DONE
    yield RenewalPath("requests alone", outages.requests, alone, alone)
    if schedule.has_scheduler:
        yield RenewalPath("scheduler", outages.http, TICK + SWEEP_DONE, TICK + SWEEP_DONE)


def _fans_out(schedule: FaultSchedule) -> bool:
    return schedule.profile.fan_out_threshold < schedule.profile.calls


def _with_wait(fault: Interval) -> Interval:
    """Return the time of a fault of Graph, and the time for which its calls wait afterwards."""
    return Interval(
        fault.start, fault.end + (WAIT_AFTER_429 if fault.mode in {"429", "mixed"} else WAIT_AFTER_TIMEOUTS)
    )


def _is_clear(bad: Intervals, start: float, end: float) -> bool:
    return next(gaps(bad, start, end), None) == (start, end)


def _kills(schedule: FaultSchedule, group: str, after: float) -> list[Interval]:
    """Return the times in which a process of a group may be dead, and `after` seconds more."""
    return [
        Interval(kill.at, kill.at + MAX_KILL_DELAY + kill.down + after)
        for kill in schedule.kills
        if kill.group == group
    ]


def _watchdog_lost(
    losses: Intervals, repairs: tuple[tuple[Intervals, float], ...], seconds: float
) -> Iterator[Interval]:
    """Yield the times from a possible loss of the watchdog until a sweep by another path must have sent another one."""
    for loss in losses:
        ends = [
            open_from + window
            for blocked, window in repairs
            for open_from, open_to in gaps(blocked, loss.end, seconds)
            if open_to - open_from >= window
        ]
        yield Interval(loss.start, min(ends, default=seconds + LEASE))
