"""The deliverer: attempts deliveries, in order in each lane, and stores what came of each attempt."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from secrets import token_hex

from shared import telemetry
from shared.clock import Clock
from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.deliveries import Attempt, Delivery, DeliveryStatus, Destination, Lane, LaneKey, is_valid_to
from shared.errors import StoreConflict, StoreUnavailable, safe_message
from shared.relay.attempts import Attempts, Sender, Tokens, Transmission
from shared.relay.breaker import Blocked, Destinations, Obstacle
from shared.relay.judgement import (
    NO_TARGET,
    UNAUTHORIZED,
    Effect,
    Verdict,
    give_up,
    is_expired,
    judge,
    with_attempt,
)
from shared.relay.lanes import CLAIM, SUCCESSOR_WAIT, Lanes, log_dead
from shared.relay.reopening import Reopening
from shared.relay.schedule import Schedule
from shared.relay.sender import Answer
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.changes import Claim
from shared.storage.delivery_codec import Barrier
from shared.storage.outbox import LaneEntry, OutboxStore, is_full
from shared.storage.relay_queue import Deliver, Look, RelayMessage, deliver_message
from shared.storage.rows import SHARDS
from shared.storage.stored import Stored

WORK_TIME = timedelta(minutes=2)  # of one message or look: the rest is left to another one. host.json ends it after 5
ENABLING_TIME = timedelta(minutes=5)  # that a request to enable a target takes at most: host.json ends it then
MAX_CONCURRENT_LANES = 32  # that a look attempts at the same time
REPEAT_AFTER_401 = timedelta(seconds=1)  # the bot may have fetched new signing keys by then: facts of Microsoft's SDK


@dataclass(frozen=True, slots=True)
class Opened:
    """A new delivery, and its lanes, which this process has opened with it.

    Parameters
    ----------
    lanes
        The lane of its first call, then those of its other calls. Empty if nothing waits for the delivery.
    is_alone
        False if its change put further deliveries into the lane: they follow.
    """

    stored: Stored[Delivery]
    lanes: Sequence[Stored[Lane]] = ()
    is_alone: bool = True


@dataclass(frozen=True, slots=True)
class FirstAttempt:
    """The delivery after its first attempt, and the bot's answer, None if there was none."""

    delivery: Delivery
    answer: Answer | None = None


@dataclass(frozen=True)
class Deliverer:
    """Attempts deliveries. Any number may work at once, in any number of processes, and any may die anywhere.

    A worker attempts only the first pending delivery of a lane, and stores the result before it attempts the next. So
    no delivery is first made after a later one. A claim in the row of the lane keeps two workers from the same one.
    """

    outbox: OutboxStore
    targets: RelayTargets
    destinations: Destinations
    sender: Sender
    tokens: Tokens
    queue: BestEffortQueue[RelayMessage]
    clock: Clock
    schedule: Schedule
    _background: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @property
    def reopening(self) -> Reopening:
        """Makes dead and disabled deliveries pending again."""
        return Reopening(self.outbox, self.destinations, self.clock)

    @cached_property
    def _attempts(self) -> Attempts:
        return Attempts(self.targets, self.sender, self.tokens, self.clock, self.schedule)

    @cached_property
    def _lanes(self) -> Lanes:
        return Lanes(self.outbox, self.queue, self.clock)

    def claim(self) -> Claim:
        """Return a new claim on lanes."""
        return Claim(token_hex(8), self.clock.now() + CLAIM)

    # First attempts, in the webhook

    async def attempt_first(self, opened: Opened, way: Transmission) -> FirstAttempt:
        """Make the first attempt of a delivery whose lanes this process has opened, and store the result."""
        delivery = opened.stored.value
        blocked = self.destinations.blocked(delivery.destination)
        if blocked:
            await self._postpone(opened, blocked.until)
            return FirstAttempt(delivery)
        if way.body is None and delivery.body is None:
            verdict = Verdict(give_up(delivery, "bodyTooLarge", self.clock.now()), Effect.NONE)
            await self._finish([opened], [verdict.delivery], verdict)
            return FirstAttempt(verdict.delivery)
        tried = await self._attempts.make(delivery, way)
        is_refused = tried.attempt.status == UNAUTHORIZED
        if is_refused and way.bearer and way.bearer.is_usable(self.clock.now() + REPEAT_AFTER_401):
            await self.clock.sleep(REPEAT_AFTER_401.total_seconds())
            tried = await self._attempts.make(with_attempt(delivery, tried.attempt), way)
        await self._finish([opened], [tried.verdict.delivery], tried.verdict)
        return FirstAttempt(tried.verdict.delivery, tried.answer)

    async def ask(self, stored: Stored[Delivery], way: Transmission, *, beside: Iterable[Opened] = ()) -> FirstAttempt:
        """Attempt, once, a notification that wants its answer in the response, and store the result.

        Parameters
        ----------
        way
            Its body may be that of the whole request: the notification may have come with others.
        beside
            The deliveries of those others. The same answer counts for them; what it does not deliver is retried.
        """
        others = list(beside)
        blocked = self.destinations.blocked(stored.value.destination)
        if blocked:
            attempt = Attempt(self.clock.now(), error=blocked.obstacle.value)
            verdict = Verdict(with_attempt(stored.value, attempt), Effect.NONE)
            await self._finish([Opened(stored)], [verdict.delivery], verdict)
            for other in others:
                await self._postpone(other, blocked.until)
            return FirstAttempt(verdict.delivery)
        tried = await self._attempts.make(replace(stored.value, status=DeliveryStatus.PENDING), way)
        headers, now = tried.answer.headers if tried.answer else {}, self.clock.now()
        judged = [judge(each.stored.value, tried.attempt, headers, now, self.schedule).delivery for each in others]
        await self._finish([Opened(stored), *others], [tried.verdict.delivery, *judged], tried.verdict)
        return FirstAttempt(tried.verdict.delivery, tried.answer)

    async def notice_overdue(self, lanes: Iterable[Lane]) -> None:
        """Send messages for lanes that a notification joined, if the queue has forgotten them."""
        for lane in lanes:
            if self._is_overdue(lane) and not self._waits_until(lane):
                await self.queue.send(deliver_message(lane.key))

    async def leave(self, lanes: Iterable[Stored[Lane]]) -> None:
        """Give up lanes that this process has opened for a delivery that waits in the lane of another of its calls."""
        try:
            for lane in lanes:
                await self._lanes.release(lane, self.clock.now() + SUCCESSOR_WAIT)
        except StoreUnavailable as error:
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

    async def _finish(self, opened: Iterable[Opened], after: Iterable[Delivery], verdict: Verdict) -> None:
        """Store what one first attempt did to deliveries, and then go on with their lanes in the background.

        If the store does not answer, a look finds the lanes when their claims have ended.
        """
        rest: list[Stored[Lane]] = []
        try:
            for each, delivery in zip(opened, after, strict=True):
                rest += await self._conclude(each, delivery)
            await self._apply(verdict)
        except StoreUnavailable as error:
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))
        for lane in rest:
            self._spawn(lane)

    async def _conclude(self, opened: Opened, after: Delivery) -> list[Stored[Lane]]:
        """Store the result of a first attempt. Return the lanes that this process goes on with."""
        if not opened.lanes:
            try:
                await self.outbox.save(opened.stored, after)
            except StoreConflict as error:  # most likely the answer to this very write was lost
                telemetry.STATE_ACCESS_FAILED(error=safe_message(error))
            log_dead(after)
            return []
        own, *others = opened.lanes
        rest = await self._lanes.settle(opened.stored, own, after, is_last=opened.is_alone)
        return [*([rest] if rest else []), *await self._lanes.finish_others(after, others)]

    async def _postpone(self, opened: Opened, until: datetime) -> None:
        """Leave a delivery to a later attempt without a first one."""
        try:
            for number, lane in enumerate(opened.lanes):
                await self._lanes.release(lane, until + SUCCESSOR_WAIT if number else until)
        except StoreUnavailable as error:
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

    # Messages, and looks at the outbox

    async def handle(self, message: RelayMessage) -> None:
        """Do what a message of the queue asks for. While the store is away the message is put back with a delay.

        Raises
        ------
        StoreUnavailable
            The message could not be put back either, so the host delivers it again.
        """
        try:
            await self.destinations.refresh()
            match message:
                case Deliver():
                    await self.work(message.lane, message.due)
                case Look(target=None):
                    await self.look()
                case Look(target=str(target)):
                    await self.destinations.refresh(force=True)
                    await self.reopening.reopen_held(target, only_enabled=True)
                    await self.look(target)
        except StoreUnavailable:
            await self.queue.put_back(message)

    async def look(self, target: str | None = None, *, until: datetime | None = None) -> None:
        """Attempt all lanes that are overdue, or all lanes of a target, now: for two minutes, or until a time before.

        Raises
        ------
        StoreUnavailable
            A shard could not be read. The other shards are looked at all the same.
        """
        await self.destinations.refresh()
        began, lanes, failure = self.clock.now(), 0, None
        oldest = began
        due: list[LaneKey] = []
        for shard in range(SHARDS):
            try:
                async for stored in self.outbox.scan_lanes(shard):
                    lane = stored.value
                    lanes += 1
                    oldest = min(oldest, lane.oldest_received_at or began)
                    is_due = self._is_overdue(lane) and not self._waits_until(lane)
                    if lane.key.destination.target == target or (target is None and is_due):
                        due.append(lane.key)
            except StoreUnavailable as error:
                failure = error
        if lanes:
            telemetry.RELAY_BACKLOG(lanes=lanes, oldestSeconds=round((began - oldest).total_seconds(), 1))
        ends_at = self.clock.now() + WORK_TIME
        await self._work_on_all(due, min(until or ends_at, ends_at), is_forced=target is not None)
        if failure:
            raise failure

    async def work(
        self,
        key: LaneKey,
        due: datetime | None = None,
        *,
        is_forced: bool = False,
        until: datetime | None = None,
    ) -> None:
        """Attempt the deliveries of a lane in their order, until one fails, none is left, or two minutes have passed.

        Parameters
        ----------
        due
            The attempt that a message is for: if the lane waits for another one, the message is a leftover.
        is_forced
            Attempt it now, although it waits for a later attempt: its destination has changed.
        until
            When the two minutes have passed. None: they begin now.
        """
        stored = await self.outbox.get_lane(key)
        if stored is None or not self._may_claim(stored.value, due, is_forced=is_forced):
            return
        if not is_forced and (later := self._waits_until(stored.value)):  # a claim would cost more than a message
            message = deliver_message(key, stored.value.next_attempt_at)
            await self.queue.send(message, later - self.clock.now())
            return
        claim = self.claim()
        lane = replace(stored.value, claim_id=claim.id, claimed_until=claim.until, next_attempt_at=None)
        try:
            claimed = await self.outbox.put_lane(stored, lane)
        except StoreConflict:  # a notification joined it, or another worker was faster
            await self.queue.send(deliver_message(key, due), SUCCESSOR_WAIT)
            return
        await self._drain(claimed, until or self.clock.now() + WORK_TIME)

    async def _work_on_all(self, keys: Iterable[LaneKey], until: datetime, *, is_forced: bool) -> None:
        """Work on lanes until a time. The next look finds the rest. Raise an unexpected error only after all lanes."""
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_LANES)

        async def work(key: LaneKey) -> None:
            async with semaphore:
                if self.clock.now() >= until:
                    return
                try:
                    await self.work(key, is_forced=is_forced, until=until)
                except StoreUnavailable as error:
                    telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

        for result in await asyncio.gather(*map(work, keys), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def _may_claim(self, lane: Lane, due: datetime | None, *, is_forced: bool) -> bool:
        now = self.clock.now()
        if lane.claimed_until is not None and now < lane.claimed_until:
            return False
        if is_forced or lane.next_attempt_at is None or lane.next_attempt_at == due:
            return True
        return lane.next_attempt_at <= now

    def _waits_until(self, lane: Lane) -> datetime | None:
        """Return when the destination of a lane may be asked again. None: now, or the lane has an expired delivery."""
        blocked, now = self.destinations.blocked(lane.key.destination), self.clock.now()
        if blocked is None or blocked.until <= now:
            return None
        received_at = lane.oldest_received_at
        is_expired = received_at is not None and now >= received_at + self.schedule.window
        return None if is_expired else blocked.until

    def _is_overdue(self, lane: Lane) -> bool:
        """True if an attempt of the lane should have been made a minute ago, or if its worker has died."""
        now = self.clock.now()
        if lane.claimed_until is not None:
            return now >= lane.claimed_until
        return lane.next_attempt_at is None or now >= lane.next_attempt_at + self.schedule.overdue_after

    # One lane

    async def _drain(self, lane: Stored[Lane], until: datetime) -> None:
        """Attempt what is pending in a claimed lane. Each result is stored before the next attempt."""
        claimed: Stored[Lane] | None = lane
        while claimed is not None:
            entries = await self.outbox.pending_of_lane(claimed.value.key)
            claimed = (
                await self._drain_entries(entries, claimed, until) if entries else await self._lanes.close(claimed)
            )

    async def _drain_entries(
        self, entries: Sequence[LaneEntry], lane: Stored[Lane], until: datetime
    ) -> Stored[Lane] | None:
        """Attempt the pending entries of a lane. Return the lane if there may be more, None if its work is over."""
        known = lane.value.appended
        for number, entry in enumerate(entries, 1):
            if self.clock.now() >= until:
                await self._lanes.release(lane, self.clock.now())
                return None
            # What was added since the entries were read is not among them.
            is_last = number == len(entries) and not is_full(entries) and lane.value.appended == known
            rest = await self._advance(entry, lane, is_last=is_last)
            if rest is None:
                return None
            lane = rest
        return lane

    async def _advance(self, entry: LaneEntry, lane: Stored[Lane], *, is_last: bool) -> Stored[Lane] | None:
        """Attempt the first entry of a lane. Return the lane if the next one may follow, None if its work is over."""
        if isinstance(entry.value, Barrier):
            return await self._lanes.pass_barrier(entry.value, lane, is_last=is_last)
        stored = Stored(entry.value, entry.etag)
        verdict = await self._attempt_late(stored.value)
        if isinstance(verdict, datetime):
            await self._lanes.release(lane, verdict)
            return None
        rest = await self._lanes.settle(stored, lane, verdict.delivery, is_last=is_last)
        await self._lanes.finish_others(verdict.delivery)
        await self._apply(verdict)
        return rest

    async def _attempt_late(self, before: Delivery) -> Verdict | datetime:
        """Attempt a pending delivery with our own token. Return a time if it must wait until then."""
        now = self.clock.now()
        target = self.targets.get(before.destination.target)
        if error := self._hopeless(before, target, now):
            return Verdict(give_up(before, error, now), Effect.NONE)
        if target is None:
            return now + self.schedule.longest_delay
        if later := await self._lanes.predecessor_ends_at(before):
            return later
        blocked = await self._admit(before)
        if blocked:
            return self._wait_or_hold(before, blocked, now)
        return (await self._attempts.make(before, Transmission())).verdict

    def _hopeless(self, delivery: Delivery, target: RelayTarget | None, now: datetime) -> str | None:
        """Return why a delivery is given up without an attempt, or None."""
        if delivery.body is None:
            return "bodyTooLarge"
        if is_expired(delivery, now, self.schedule):
            return "expired" if target else NO_TARGET
        if target and target.wants_to and not is_valid_to(delivery.destination.to or ""):  # its URL was changed
            return "noTo"
        return None

    async def _admit(self, delivery: Delivery) -> Blocked | None:
        if delivery.is_replay and self._is_disabled(delivery.destination):
            return None
        return await self.destinations.admit(delivery.destination)

    def _wait_or_hold(self, delivery: Delivery, blocked: Blocked, now: datetime) -> Verdict | datetime:
        """Return until when a delivery waits for its destination, or hold it if that is switched off."""
        if blocked.obstacle is not Obstacle.DISABLED:
            return blocked.until
        if self._is_being_enabled(delivery, now):
            return now + SUCCESSOR_WAIT
        return Verdict(replace(delivery, status=DeliveryStatus.DISABLED, next_attempt_at=None), Effect.NONE)

    def _is_being_enabled(self, delivery: Delivery, now: datetime) -> bool:
        """True if the delivery was reopened after its destination was switched off, and a short time ago.

        The request that enables the destination is still at work. If the delivery were held again, those behind it
        would be delivered before it.
        """
        disabled_at, since = self.destinations.disabled_at(delivery.destination), delivery.retry_since
        is_reopened = since > delivery.received_at and disabled_at is not None and disabled_at < since
        return is_reopened and now - since < ENABLING_TIME

    def _is_disabled(self, destination: Destination) -> bool:
        blocked = self.destinations.blocked(destination)
        return blocked is not None and blocked.obstacle is Obstacle.DISABLED

    async def _apply(self, verdict: Verdict) -> None:
        """Record the effect of an attempt on its destination."""
        destination = verdict.delivery.destination
        match verdict.effect:
            case Effect.WELL:
                if await self.destinations.record_success(destination):
                    await self.queue.send(Look(target=destination.target))
            case Effect.FAILED:
                await self.destinations.record_failure(destination)
            case Effect.RESTS:
                await self.destinations.record_rest(destination, verdict.rest)
            case Effect.GONE:
                await self.destinations.record_gone(destination)
                await self.queue.send(Look(target=destination.target))
            case Effect.NONE:
                pass

    def _spawn(self, lane: Stored[Lane]) -> None:
        """Go on with a lane after the answer to Graph. If the process dies, a look finds the lane by its claim."""

        async def drain() -> None:
            try:
                await self._drain(lane, self.clock.now() + WORK_TIME)
            except StoreUnavailable as error:
                telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

        task = asyncio.create_task(drain())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
