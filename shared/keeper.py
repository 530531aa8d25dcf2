"""The heart: sweeps the shards, so that no lease lapses, and watches that sweeps happen at all."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count

from shared import telemetry
from shared.clock import Clock
from shared.errors import StoreUnavailable, safe_message
from shared.leases import WatchdogState, Watermark, credible
from shared.renewal import Outcome, Renewer
from shared.shard import ShardSweeper
from shared.store import SHARDS, CallStore
from shared.sweep import Plan, Tally
from shared.wakeups import Renew, Sweep, SweepShard, WakeUp

PURGE_LIMIT = 1_000  # ended calls that are deleted before the next are looked for
PURGE_EVERY = timedelta(hours=1)
PURGE_TIME = timedelta(seconds=30)  # of one sweep; what is left then waits for the next
AGAIN = 5  # minutes in which a shard that failed is left one message
FUNCTION_TIMEOUT = 5  # minutes. host.json: functionTimeout
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)
UNHEARD = 5  # minutes after which stale shards show that nobody does what requests leave on the queue
LOOK_PATIENCE = 2.0  # seconds that a request may lose by looking whether sweeps still happen


class Keeper:
    """Sweeps. Any number of sweeps may run at once, and any may die anywhere: the worst is a call renewed twice."""

    def __init__(self, store: CallStore, renewer: Renewer, clock: Clock, plan: Plan) -> None:
        self._store = store
        self._renewer = renewer
        self._clock = clock
        self._plan = plan
        self._sweeper = ShardSweeper(store, renewer, clock, plan)
        self._done_at: dict[int, datetime] = {}  # when the last sweep of this process began that did the whole shard
        self._purge_at: dict[int, datetime] = {}
        self._left: dict[int, datetime] = {}  # when this process last left a message to sweep a shard again
        self._switch_left_at: datetime | None = None
        self._switch_due = clock.now()
        self._next_look: datetime | None = None
        self._look_at = count()
        self._stale_since: datetime | None = None  # since when each look found a stale shard
        self._beside: asyncio.Task[None] | None = None

    async def sweep(
        self,
        wake_up: str,
        *,
        unless_younger_than: timedelta | None = None,
        budget: timedelta | None = None,
        alone: bool = False,
    ) -> Tally:
        """Leave the dead man's switch; sweep all shards; tell what was done.

        Parameters
        ----------
        wake_up
            What began it: timer, watchdog, request or operator.
        unless_younger_than
            A shard whose last sweep began less than this ago is left alone. None: sweep in any case, from the start.
        budget
            How long it may take, if that is less than the plan's.
        alone
            Leave no shard to the queue, however many calls there are. An operator's sweep never does.

        Raises
        ------
        StoreUnavailable
            No shard could be swept.
        """
        began = self._clock.now()
        deadline = began + min(budget or self._plan.budget, self._plan.budget)
        shards = self._order(began)
        is_operator = wake_up == "operator"
        switch_left = is_operator and await self._is_switch_to_come(began)
        switch_left = switch_left or await self._leave_switch(self._plan.timing.sweep_stale_after, began)
        for_others = set[int]() if alone or is_operator else await self._fan_out(shards)
        total = Tally(handed_over=len(for_others))

        async def sweep_one(shard: int) -> None:
            tally = await self._try_shard(shard, deadline, unless_younger_than)
            total.add(tally)
            if not tally.failed and not tally.handed_over:
                self._done_at[shard] = began

        async with asyncio.TaskGroup() as group:
            for shard in shards:
                if shard not in for_others:
                    group.create_task(sweep_one(shard))
        if not switch_left:
            await self._leave_switch(self._plan.timing.sweep_stale_after, began)
        total.purged = await self._purge(range(SHARDS), deadline)
        self._tell(wake_up, total, began)
        if total.failed == SHARDS:
            raise StoreUnavailable("No shard could be swept; each failure is in the log.")
        return total

    async def handle(self, message: WakeUp) -> None:
        """Do what a queue message asks for.

        While the store is away the message is put back with a delay: after five failures the host would poison it, and
        a few minutes' outage would silence the retries and the dead man's switch.

        Raises
        ------
        StoreUnavailable
            It could not be put back either: the host shows it again.
        """
        try:
            await self._do(message)
        except StoreUnavailable:
            await self._renewer.put_back(message)

    async def notice(self) -> None:
        """The third wake-up: a request looks, once in a while, whether sweeps still happen, and if not, queues one.

        Where that does not help, its process sweeps by itself. It never fails, and takes two seconds at most: the
        request is done, and must be answered.
        """
        now = self._clock.now()
        if self._next_look and now < self._next_look:
            return
        self._next_look = now + self._plan.timing.minute
        try:
            async with asyncio.timeout(LOOK_PATIENCE):
                stale_in = self._until_stale(await self._store.get_watermark(next(self._look_at) % SHARDS))
                if self._is_unheard(now, stale_in):
                    self._sweep_beside()
                if stale_in <= timedelta():
                    await self._renewer.send(Sweep(wake_up="request"))
        except Exception as error:  # noqa: BLE001 (see above)
            telemetry.LOOK_FAILED(error=safe_message(error))

    def _is_unheard(self, now: datetime, stale_in: timedelta) -> bool:
        """Whether messages do not help. A shard that was never swept does not tell for how long it is stale."""
        if stale_in > timedelta():
            self._stale_since = None
            return False
        self._stale_since = self._stale_since or now
        return max(-stale_in, now - self._stale_since) >= UNHEARD * self._plan.timing.minute

    def _sweep_beside(self) -> None:
        """Sweep beside the requests of this process, one sweep at a time."""
        if self._beside is None or self._beside.done():
            self._beside = asyncio.create_task(self._see_to_overdue())

    async def _see_to_overdue(self) -> None:
        """Timer and queue both stand still. That it is seen to is told by the row alone, as the queue may be away."""
        try:
            now, last = self._clock.now(), await self._store.get_watchdog_state()
            if last and self._is_seen_to(Sweep(wake_up="request"), last):
                return
            await self._store.put_watchdog_state(WatchdogState(last.due if last else now, now))
            await self.sweep("request", unless_younger_than=self._plan.timing.sweep_fresh_for, alone=True)
        except Exception as error:  # noqa: BLE001 (nobody waits for it: the next request looks again)
            telemetry.LOOK_FAILED(error=safe_message(error))

    async def _do(self, message: WakeUp) -> None:
        match message:
            case Renew():
                await self._renewer.retry(message)
            case SweepShard():
                began = self._clock.now()
                deadline = began + self._plan.budget
                self._left.pop(message.shard, None)
                tally = await self._sweeper.sweep(message.shard, deadline, self._plan.timing.sweep_fresh_for)
                tally.purged = await self._purge([message.shard], deadline)
                self._tell("queue", tally, began, shards=1)
            case Sweep():
                last = await self._store.get_watchdog_state()
                if last is None or not self._is_seen_to(message, last):
                    await self._see_to_stale(message, last.sweep_began_at if last else None)

    def _is_seen_to(self, message: Sweep, last: WatchdogState) -> bool:
        """Whether others do it. There is one chain of switches, and the last that was left counts.

        While a sweep is under way watermarks are still stale, and requests notice it again and again: sweeps must not
        pile up, each slowing the others down, just when there is much to do.
        """
        if message.due:
            return message.due < last.due
        if last.sweep_began_at is None:
            return False
        under_way = min(self._plan.budget, FUNCTION_TIMEOUT * self._plan.timing.minute)
        return -self._plan.timing.max_clock_skew <= self._clock.now() - last.sweep_began_at < under_way

    async def _see_to_stale(self, message: Sweep, last_began: datetime | None) -> None:
        """One stale shard is enough to sweep all: a shard that is nearly stale would wait for the next switch."""
        stale_in = await self._stale_in()
        if stale_in <= timedelta():
            with suppress(StoreUnavailable):  # what failed has left messages of its own: nothing to put back
                await self.sweep(message.wake_up, unless_younger_than=self._plan.timing.sweep_fresh_for)
        elif message.due:  # shards that were swept one by one left none, and the timer may be dead
            await self._leave_switch(max(stale_in, self._plan.timing.minute), last_began)
        if message.due and self._switch_due <= self._clock.now():  # this one must stay, as it has no successor
            raise StoreUnavailable("The next dead man's switch could not be left.")

    async def _try_shard(self, shard: int, deadline: datetime, unless_younger_than: timedelta | None) -> Tally:
        try:
            return await self._sweeper.sweep(shard, deadline, unless_younger_than)
        except Exception as error:  # noqa: BLE001 (one shard's trouble, a bug's too, never holds up the others)
            telemetry.SHARD_FAILED(shard=shard, error=safe_message(error))
            await self._sweep_again(shard)
            return Tally(failed=1)

    async def _sweep_again(self, shard: int) -> None:
        """Leave a message for a minute later, unless one is under way: each would bring others, without end."""
        now, left_at = self._clock.now(), self._left.get(shard)
        if left_at and now - left_at < AGAIN * self._plan.timing.minute:
            return
        if await self._renewer.send(SweepShard(shard=shard), self._plan.timing.minute):
            self._left[shard] = now

    async def _purge(self, shards: Iterable[int], deadline: datetime) -> int:
        """Delete calls that ended long ago, once an hour, when everything else is done, and while there is time."""
        purged, now = 0, self._clock.now()
        until = min(deadline, now + PURGE_TIME)

        async def purge(shard: int) -> None:
            nonlocal purged
            try:
                while self._clock.now() < until:
                    count = await self._store.purge(shard, now - self._plan.retention, PURGE_LIMIT)
                    purged += count
                    if count < PURGE_LIMIT:
                        self._purge_at[shard] = now + PURGE_EVERY
                        return
            except StoreUnavailable as error:  # it can wait
                telemetry.PURGE_FAILED(shard=shard, error=safe_message(error))

        with suppress(TimeoutError):  # each of its many requests may be slow
            async with asyncio.timeout(max((until - now).total_seconds(), 0)), asyncio.TaskGroup() as group:
                for shard in shards:
                    if self._purge_at.get(shard, now) <= now:
                        group.create_task(purge(shard))
        return purged

    async def _leave_switch(self, delay: timedelta, sweep_began_at: datetime | None) -> bool:
        """Whether one lies on the queue now: each sweep leaves one as it begins, so that it may die anywhere.

        The message before the row: should the row not be written, two switches come, which is better than none.
        """
        now = self._clock.now()
        due = now + delay
        if (
            self._switch_left_at
            and now - self._switch_left_at < self._plan.timing.sweep_fresh_for
            and now < self._switch_due
        ):
            return True  # one was just left, and is still to come
        if not await self._renewer.send(Sweep(wake_up="watchdog", due=due), delay):
            return False
        self._switch_left_at, self._switch_due = now, due
        try:
            await self._store.put_watchdog_state(WatchdogState(due, sweep_began_at))
        except StoreUnavailable as error:
            telemetry.LOOK_FAILED(error=safe_message(error))
        return True

    async def _stale_in(self) -> timedelta:
        """How long it is until the first shard is stale: nothing or less if one is, by this machine's clock.

        The sweeper's may have been ahead: then the switch comes early, and must not wait for as long once more.
        """
        return min(map(self._until_stale, await self._watermarks()))

    def _until_stale(self, watermark: Watermark | None) -> timedelta:
        now, timing = self._clock.now(), self._plan.timing
        last = credible(watermark, now, timing)
        return last.sweep_started_at + timing.sweep_stale_after - now if last else timedelta()

    def _order(self, now: datetime) -> list[int]:
        """The shards that were not done for longest first, then from another one each time.

        Should sweeps end early and the queue be away, the same shards would always come last.
        """
        first = int(now.timestamp()) // 60 * 7 % SHARDS  # at a tick each quarter of an hour: 0, 9, 2, 11, …
        return sorted([*range(first, SHARDS), *range(first)], key=lambda shard: self._done_at.get(shard, _NEVER))

    async def _is_switch_to_come(self, now: datetime) -> bool:
        """Whether one that was left lies on the queue. However often operators ask, their sweeps leave no others."""
        try:
            last = await self._store.get_watchdog_state()
        except StoreUnavailable:
            return False
        return last is not None and now < last.due <= now + self._plan.timing.sweep_stale_after

    async def _fan_out(self, shards: list[int]) -> set[int]:
        """Leave a message a shard, if there are more calls than one process shall sweep; those shards.

        A stale shard is not among them: the message of the sweep before was not done, so the queue may stand still.
        """
        if not await self._too_many(shards[0]):
            return set()
        marks = await self._watermarks()
        current = [shard for shard in shards if self._until_stale(marks[shard]) > timedelta()]
        return {shard for shard in current if await self._renewer.send(SweepShard(shard=shard))}

    async def _too_many(self, shard: int) -> bool:
        """One shard tells for all: ids are hashed."""
        mark = await self._watermark(shard)
        return mark is not None and SHARDS * (mark.renewed + mark.failing) > self._plan.fan_out_above

    async def _watermarks(self) -> list[Watermark | None]:
        return await asyncio.gather(*map(self._watermark, range(SHARDS)))

    async def _watermark(self, shard: int) -> Watermark | None:
        """One that cannot be read counts as none: it must not stop the others' sweep."""
        try:
            return await self._store.get_watermark(shard)
        except Exception as error:  # noqa: BLE001 (see above)
            telemetry.LOOK_FAILED(error=safe_message(error))
            return None

    def _tell(self, wake_up: str, tally: Tally, began: datetime, shards: int = SHARDS) -> None:
        margin = None if tally.margin is None else round(tally.margin / timedelta(minutes=1), 1)
        telemetry.SWEEP_FINISHED(
            wakeUp=wake_up,
            shards=shards,
            swept=shards - tally.skipped - tally.failed - tally.handed_over,
            skipped=tally.skipped,
            failed=tally.failed,
            handedOver=tally.handed_over,
            renewed=tally.renewed,
            ended=tally.ended,
            failing=tally.failing,
            purged=tally.purged,
            smallestMarginMinutes=margin,
        )
        for outcome in (Outcome.RENEWED, Outcome.ENDED, Outcome.FAILING):
            telemetry.RENEWALS.add(getattr(tally, outcome.value), outcome=outcome.value, wakeUp=wake_up)
        telemetry.DURATION.add((self._clock.now() - began).total_seconds(), wakeUp=wake_up)
        if margin is not None:
            telemetry.MARGIN.add(margin, wakeUp=wake_up)
