"""The deliverer: attempts deliveries, in order in each lane, and stores what came of each attempt."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Protocol

from shared import telemetry
from shared.clock import Clock
from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.deliveries import (
    NOTIFICATION_TYPE,
    Attempt,
    Delivery,
    DeliveryStatus,
    Destination,
    Lane,
    LaneKey,
)
from shared.errors import StoreConflict, StoreUnavailable, TokenUnavailable, safe_message
from shared.relay.breaker import Blocked, Destinations, Obstacle
from shared.relay.judgement import NO_TARGET, NO_TOKEN, Effect, Verdict, give_up, is_expired, judge, with_attempt
from shared.relay.schedule import MAX_RETRY_DELAY, Schedule
from shared.relay.sender import Answer, NotSent
from shared.relay.signing import webhook_headers
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.changes import Claim
from shared.storage.delivery_codec import Barrier
from shared.storage.outbox import MAX_LANE_BATCH, LaneEntry, OutboxStore
from shared.storage.relay_queue import Deliver, Look, RelayMessage, deliver_message
from shared.storage.rows import SHARDS
from shared.storage.stored import Stored

LATE_TIMEOUT = timedelta(seconds=15)  # Standard Webhooks: 15 to 30 seconds
CLAIM = timedelta(seconds=45)  # of a lane: an attempt of 15 s, and the writes around it of 10 s each
WORK_TIME = timedelta(minutes=2)  # of one message: then the lane is left to another one. host.json ends it after 5
SUCCESSOR_WAIT = timedelta(seconds=1)  # until a delivery about several calls looks again for what it waits for
MAX_CONFLICTS = 10  # of one write: each means that a notification was added to the lane
MAX_CONCURRENT_LANES = 32  # that a look attempts at the same time
REPEAT_AFTER_401 = timedelta(seconds=1)  # the bot may have fetched new signing keys by then: facts of Microsoft's SDK
UNAUTHORIZED, FORBIDDEN = 401, 403
MIN_BEARER_LIFE = timedelta(seconds=30)  # that Graph's bearer must have left when it is sent


class Sender(Protocol):
    """Sends a request to a bot. Raises `NotSent`."""

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: timedelta, *, read_body: bool = False
    ) -> Answer:
        """Return the answer, with its body only if `read_body` is true."""
        ...


class Tokens(Protocol):
    """Tokens of the bots for other audiences than Graph."""

    async def get(
        self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False, audience: str | None = None
    ) -> str:
        """Return a token. Raises `TokenUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Bearer:
    """The `Authorization` header of Graph's request. It stays in memory, and is not sent shortly before its end."""

    header: str = field(repr=False)
    expires_at: datetime

    def is_usable(self, now: datetime) -> bool:
        """True if it has 30 seconds left."""
        return self.expires_at - now >= MIN_BEARER_LIFE


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

    def claim(self) -> Claim:
        """Return a new claim on lanes."""
        return Claim(token_hex(8), self.clock.now() + CLAIM)

    # First attempts, in the webhook

    async def attempt_first(
        self,
        stored: Stored[Delivery],
        lanes: Iterable[Stored[Lane]],
        body: bytes | None,
        bearer: Bearer | None,
        budget: timedelta,
        *,
        is_alone: bool = True,
    ) -> FirstAttempt:
        """Make the first attempt of a delivery whose lanes this process has opened, and store the result.

        Parameters
        ----------
        lanes
            The lane of the delivery first, then those of its other calls.
        body
            What is sent, if it is not the body of the row: a row may be too small for it.
        bearer
            None for an event.
        budget
            The time of one attempt, with connecting and reading.
        is_alone
            False if its change put further deliveries into the lane: they follow.
        """
        own, *others = lanes
        blocked = self.destinations.blocked(stored.value.destination)
        if blocked:
            await self._postpone(stored, own, blocked.until)
            return FirstAttempt(stored.value)
        verdict, answer = await self._attempt(stored.value, bearer, budget, body=body)
        if (
            bearer
            and answer
            and answer.status == UNAUTHORIZED
            and bearer.is_usable(self.clock.now() + REPEAT_AFTER_401)
        ):
            await self.clock.sleep(REPEAT_AFTER_401.total_seconds())
            verdict, answer = await self._attempt(verdict.delivery, bearer, budget, body=body)
        try:
            rest = await self._settle(stored, own, verdict.delivery, is_last=is_alone)
            if rest:
                self._spawn(rest)
            if verdict.delivery.status is not DeliveryStatus.PENDING:
                await self._close_barriers(verdict.delivery, {lane.value.key: lane for lane in others})
            await self._apply(verdict)
        except StoreUnavailable as error:  # a look finds the lane when its claim has ended
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))
        return FirstAttempt(verdict.delivery, answer)

    async def ask(
        self,
        stored: Stored[Delivery],
        body: bytes,
        bearer: Bearer,
        budget: timedelta,
        *,
        beside: Iterable[tuple[Stored[Delivery], list[Stored[Lane]]]] = (),
    ) -> FirstAttempt:
        """Attempt, once, a notification that wants its answer in the response, and store the result.

        Parameters
        ----------
        body
            What is sent: the notification may have come with others.
        beside
            The deliveries of those others, with their lanes. The same answer counts for them; what it does not deliver
            is retried.
        """
        blocked = self.destinations.blocked(stored.value.destination)
        if blocked:
            delivery = with_attempt(stored.value, Attempt(self.clock.now(), error=blocked.obstacle.value))
            verdict, answer = Verdict(delivery, Effect.NONE), None
        else:
            pending = replace(stored.value, status=DeliveryStatus.PENDING)
            verdict, answer = await self._attempt(pending, bearer, budget, body=body, read_body=True)
        try:
            await self.outbox.save(stored, verdict.delivery)
            log_dead(verdict.delivery)
            for other, lanes in beside:
                await self._conclude(other, lanes, verdict.delivery.attempts[-1], answer)
            await self._apply(verdict)
        except (StoreUnavailable, StoreConflict) as error:
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))
        return FirstAttempt(verdict.delivery, answer)

    async def _conclude(
        self, stored: Stored[Delivery], lanes: list[Stored[Lane]], attempt: Attempt, answer: Answer | None
    ) -> None:
        """Store an attempt that was made with another delivery."""
        own, *others = lanes
        headers = answer.headers if answer else {}
        after = judge(stored.value, attempt, headers, self.clock.now(), self.schedule).delivery
        rest = await self._settle(stored, own, after, is_last=True)
        if rest:
            self._spawn(rest)
        if after.status is not DeliveryStatus.PENDING:
            await self._close_barriers(after, {lane.value.key: lane for lane in others})

    async def notice_overdue(self, lanes: Iterable[Lane]) -> None:
        """Send messages for lanes that a notification joined, if the queue has forgotten them."""
        for lane in lanes:
            if self._is_overdue(lane):
                await self.queue.send(deliver_message(lane.key))

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
                case Look():
                    await self.destinations.refresh(force=True)
                    await self.look(message.target)
        except StoreUnavailable:
            await self.queue.put_back(message)

    async def look(self, target: str | None = None) -> None:
        """Attempt all lanes that are overdue, or all lanes of a target, now.

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
                    if lane.key.destination.target == target or (target is None and self._is_overdue(lane)):
                        due.append(lane.key)
            except StoreUnavailable as error:
                failure = error
        if lanes:
            telemetry.RELAY_BACKLOG(lanes=lanes, oldestSeconds=round((began - oldest).total_seconds(), 1))
        await self._work_on_all(due, is_forced=target is not None)
        if failure:
            raise failure

    async def work(self, key: LaneKey, due: datetime | None = None, *, is_forced: bool = False) -> None:
        """Attempt the deliveries of a lane in their order, until one fails, none is left, or two minutes have passed.

        Parameters
        ----------
        due
            The attempt that a message is for: if the lane waits for another one, the message is a leftover.
        is_forced
            Attempt it now, although it waits for a later attempt: its destination has changed.
        """
        stored = await self.outbox.get_lane(key)
        if stored is None or not self._may_claim(stored.value, due, is_forced=is_forced):
            return
        claim = self.claim()
        lane = replace(stored.value, claim_id=claim.id, claimed_until=claim.until, next_attempt_at=None)
        try:
            claimed = await self.outbox.put_lane(stored, lane)
        except StoreConflict:  # a notification joined it, or another worker was faster
            await self.queue.send(deliver_message(key, due), SUCCESSOR_WAIT)
            return
        await self._drain(claimed)

    async def _work_on_all(self, keys: Iterable[LaneKey], *, is_forced: bool) -> None:
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_LANES)

        async def work(key: LaneKey) -> None:
            async with semaphore:
                try:
                    await self.work(key, is_forced=is_forced)
                except StoreUnavailable as error:
                    telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

        await asyncio.gather(*map(work, keys))

    def _may_claim(self, lane: Lane, due: datetime | None, *, is_forced: bool) -> bool:
        now = self.clock.now()
        if lane.claimed_until is not None and now < lane.claimed_until:
            return False
        if is_forced or lane.next_attempt_at is None or lane.next_attempt_at == due:
            return True
        return lane.next_attempt_at <= now

    def _is_overdue(self, lane: Lane) -> bool:
        """True if an attempt of the lane should have been made a minute ago, or if its worker has died."""
        now = self.clock.now()
        if lane.claimed_until is not None:
            return now >= lane.claimed_until
        return lane.next_attempt_at is None or now >= lane.next_attempt_at + self.schedule.overdue_after

    # One lane

    async def _drain(self, lane: Stored[Lane]) -> None:
        """Attempt what is pending in a claimed lane. Each result is stored before the next attempt."""
        until = self.clock.now() + WORK_TIME
        claimed: Stored[Lane] | None = lane
        while claimed is not None:
            appended = claimed.value.appended
            entries = await self.outbox.pending_of_lane(claimed.value.key)
            if not entries:
                claimed = await self._close(claimed)
                continue
            for number, entry in enumerate(entries, 1):
                if self.clock.now() >= until:
                    await self._release(claimed, self.clock.now())
                    return
                # What was added since the entries were read is behind them: the ETag alone shows only what was added
                # since the last write of the lane.
                is_last = number == len(entries) < MAX_LANE_BATCH and claimed.value.appended == appended
                claimed = await self._advance(entry, claimed, is_last=is_last)
                if claimed is None:
                    return

    async def _advance(self, entry: LaneEntry, lane: Stored[Lane], *, is_last: bool) -> Stored[Lane] | None:
        """Attempt the first entry of a lane. Return the lane if the next one may follow, None if its work is over."""
        if isinstance(entry.value, Barrier):
            return await self._pass_barrier(entry.value, lane, is_last=is_last)
        stored = Stored(entry.value, entry.etag)
        before = stored.value
        after, verdict = await self._attempt_late(before, lane)
        if after is None:
            return None
        rest = await self._settle(stored, lane, after, is_last=is_last)
        if after.status is not DeliveryStatus.PENDING:
            await self._close_barriers(after, {})
        if verdict:
            await self._apply(verdict)
        return rest

    async def _attempt_late(self, before: Delivery, lane: Stored[Lane]) -> tuple[Delivery | None, Verdict | None]:
        """Attempt a pending delivery with our own token. None instead of a delivery: the lane was left to wait."""
        now = self.clock.now()
        if before.body is None:
            return give_up(before, "bodyTooLarge", now), None
        target = self.targets.get(before.destination.target)
        if is_expired(before, now, self.schedule):
            return give_up(before, "expired" if target else NO_TARGET, now), None
        if target is None:
            await self._release(lane, now + MAX_RETRY_DELAY)
            return None, None
        if await self._waits_for_another_call(before):
            await self._release(lane, now + SUCCESSOR_WAIT)
            return None, None
        blocked = await self._admit(before)
        if blocked and blocked.obstacle is Obstacle.DISABLED:
            return replace(before, status=DeliveryStatus.DISABLED, next_attempt_at=None), None
        if blocked:
            await self._release(lane, blocked.until)
            return None, None
        verdict, _ = await self._attempt(before, None, LATE_TIMEOUT)
        return verdict.delivery, verdict

    async def _admit(self, delivery: Delivery) -> Blocked | None:
        if delivery.is_replay and self._is_disabled(delivery.destination):
            return None
        return await self.destinations.admit(delivery.destination)

    def _is_disabled(self, destination: Destination) -> bool:
        blocked = self.destinations.blocked(destination)
        return blocked is not None and blocked.obstacle is Obstacle.DISABLED

    async def _settle(
        self, stored: Stored[Delivery], lane: Stored[Lane], after: Delivery, *, is_last: bool
    ) -> Stored[Lane] | None:
        """Store the result of an attempt with its lane. Return the lane if this worker goes on with it.

        If a notification joined the lane meanwhile, its ETag shows it: the lane is read and written again.
        """
        is_done = after.status is not DeliveryStatus.PENDING
        for _ in range(MAX_CONFLICTS):
            new_lane = self._next_lane(lane.value, after, is_last=is_last)
            try:
                _, saved = await self.outbox.save(stored, after, (lane, new_lane))
            except StoreConflict:
                found = await self.outbox.get_lane(lane.value.key)
                fresh = await self.outbox.get(after.call_id, after.sequence)
                if fresh is None or fresh.value.status is not DeliveryStatus.PENDING:
                    return None  # another worker has settled it
                stored = fresh
                if found is None or found.value.claim_id != lane.value.claim_id:
                    await self._save_alone(stored, after)
                    return None
                lane, is_last = found, False
                continue
            if is_done:
                log_dead(after)
                return saved
            await self._wake(lane.value.key, after.next_attempt_at)
            return None
        return None

    def _next_lane(self, lane: Lane, after: Delivery, *, is_last: bool) -> Lane | None:
        if after.status is DeliveryStatus.PENDING:
            idle = replace(lane, claim_id="", claimed_until=None)
            return replace(idle, next_attempt_at=after.next_attempt_at, oldest_received_at=after.retry_since)
        return None if is_last else replace(lane, claimed_until=self.clock.now() + CLAIM)

    async def _save_alone(self, stored: Stored[Delivery], after: Delivery) -> None:
        """Store a result although the lane belongs to another worker: a delivered one must not be sent again."""
        if after.status is DeliveryStatus.DELIVERED:
            try:
                await self.outbox.save(stored, after)
            except StoreConflict:
                return

    async def _close(self, lane: Stored[Lane]) -> Stored[Lane] | None:
        """Delete a lane that has nothing pending. If something was added meanwhile, return it as it is now."""
        try:
            await self.outbox.delete_lane(lane)
        except StoreConflict:
            found = await self.outbox.get_lane(lane.value.key)
            return found if found and found.value.claim_id == lane.value.claim_id else None
        return None

    async def _release(self, lane: Stored[Lane], next_attempt_at: datetime) -> None:
        """Give up the claim on a lane until the next attempt, which no failure has caused."""
        for _ in range(MAX_CONFLICTS):
            try:
                after = replace(lane.value, claim_id="", claimed_until=None, next_attempt_at=next_attempt_at)
                await self.outbox.put_lane(lane, after)
            except StoreConflict:
                found = await self.outbox.get_lane(lane.value.key)
                if found is None or found.value.claim_id != lane.value.claim_id:
                    return
                lane = found
                continue
            await self._wake(lane.value.key, next_attempt_at)
            return

    async def _postpone(self, stored: Stored[Delivery], lane: Stored[Lane], until: datetime) -> None:
        """Leave a delivery to a later attempt without a first one."""
        try:
            await self._release(lane, until)
        except StoreUnavailable as error:
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

    async def _wake(self, key: LaneKey, at: datetime | None) -> None:
        """Send the message of a lane's next attempt."""
        due = at or self.clock.now()
        await self.queue.send(deliver_message(key, due), max(due - self.clock.now(), timedelta()))

    # Deliveries about several calls

    async def _waits_for_another_call(self, delivery: Delivery) -> bool:
        """True if an earlier delivery is pending in the lane of another call of the body. Its worker is woken up."""
        for call_id in delivery.call_ids[1:]:
            key = LaneKey(call_id, delivery.destination)
            if await self.outbox.pending_of_lane(key, below=delivery.sequence):
                await self._wake(key, None)
                return True
        return False

    async def _pass_barrier(self, barrier: Barrier, lane: Stored[Lane], *, is_last: bool) -> Stored[Lane] | None:
        """Go on behind a delivery about several calls if it is done; else wake its own lane, and wait for it."""
        stored = await self.outbox.get(barrier.primary_call_id, barrier.sequence)
        if stored is not None and stored.value.status is DeliveryStatus.PENDING:
            await self._wake(stored.value.lane, None)
            own = await self.outbox.get_lane(stored.value.lane)
            now = self.clock.now()
            waits_until = (own.value.next_attempt_at if own else None) or now
            await self._release(lane, max(waits_until, now) + SUCCESSOR_WAIT)
            return None
        return await self._close_barrier(barrier, lane, is_last=is_last)

    async def _close_barriers(self, delivery: Delivery, claimed: Mapping[LaneKey, Stored[Lane]]) -> None:
        """Let the lanes of the other calls of a finished delivery go on."""
        for call_id in delivery.call_ids[1:]:
            barrier = Barrier(call_id, delivery.call_id, delivery.sequence, delivery.destination)
            key = LaneKey(call_id, delivery.destination)
            lane = claimed.get(key)
            if lane is None:
                await self._wake(key, None)
                continue
            rest = await self._close_barrier(barrier, lane, is_last=True)
            if rest:
                self._spawn(rest)

    async def _close_barrier(self, barrier: Barrier, lane: Stored[Lane], *, is_last: bool) -> Stored[Lane] | None:
        for _ in range(MAX_CONFLICTS):
            after = None if is_last else replace(lane.value, claimed_until=self.clock.now() + CLAIM)
            try:
                return await self.outbox.close_barrier(barrier, (lane, after))
            except StoreConflict:
                found = await self.outbox.get_lane(lane.value.key)
                if found is None or found.value.claim_id != lane.value.claim_id:
                    return None
                lane, is_last = found, False
        return None

    # One attempt

    async def _attempt(
        self,
        delivery: Delivery,
        bearer: Bearer | None,
        timeout: timedelta,  # noqa: ASYNC109 (the sender's limit, with connecting and reading)
        *,
        body: bytes | None = None,
        read_body: bool = False,
    ) -> tuple[Verdict, Answer | None]:
        """Send a delivery once, with Graph's bearer while it is usable, else with our own token."""
        began = self.clock.now()
        is_late = bearer is None or not bearer.is_usable(began)
        own = None if is_late else bearer
        sent = body if body is not None else delivery.body or b""
        answer: Answer | None = None
        target = self.targets.get(delivery.destination.target)
        assert target is not None  # noqa: S101 (a delivery of a target that is not configured is not attempted)
        try:
            answer = await self._send(delivery, target, own, sent, timeout, read_body=read_body)
            attempt = Attempt(began, answer.status, latency=self.clock.now() - began)
        except NotSent as failure:
            attempt = Attempt(began, error=failure.error, latency=self.clock.now() - began)
        except TokenUnavailable as failure:
            attempt = Attempt(began, error=f"{NO_TOKEN}: {failure}")
        headers = answer.headers if answer else {}
        verdict = judge(delivery, attempt, headers, self.clock.now(), self.schedule)
        _log_attempt(verdict.delivery, attempt, is_late=is_late)
        return verdict, answer

    async def _send(
        self,
        delivery: Delivery,
        target: RelayTarget,
        bearer: Bearer | None,
        body: bytes,
        timeout: timedelta,  # noqa: ASYNC109 (as above)
        *,
        read_body: bool,
    ) -> Answer:
        """Send a body with Graph's bearer, or with our own proof.

        Raises
        ------
        NotSent
            There was no answer.
        TokenUnavailable
            There is no token, and the bot does not accept the signature alone.
        """
        proof = {"Authorization": bearer.header} if bearer else await self._proof(delivery, target, body)
        headers = {**delivery.headers, "webhook-id": delivery.id, **proof}
        url = target.url_for(delivery.destination.to)
        answer = await self.sender.post(url, headers, body, timeout, read_body=read_body)
        if target.audience and "Authorization" not in proof and answer.status in {UNAUTHORIZED, FORBIDDEN}:
            raise TokenUnavailable("no token could be obtained, and the bot does not accept the signature alone.")
        return answer

    async def _proof(self, delivery: Delivery, target: RelayTarget, body: bytes) -> dict[str, str]:
        """Return the headers that prove a late delivery or an event to be ours: our token, a signature, or both.

        Raises
        ------
        TokenUnavailable
            No token could be obtained, and the target has no secret for a signature.
        """
        headers = webhook_headers(delivery.id, self.clock.now(), body, target.secret)
        if target.audience:
            try:
                token = await self.tokens.get(delivery.tenant_id, delivery.app_id, audience=target.audience)
            except TokenUnavailable:
                if target.secret is None:
                    raise
            else:
                headers["Authorization"] = f"Bearer {token}"
        return headers

    async def _apply(self, verdict: Verdict) -> None:
        """Record the effect of an attempt on its destination."""
        destination = verdict.delivery.destination
        match verdict.effect:
            case Effect.WELL:
                await self.destinations.record_success(destination)
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
                await self._drain(lane)
            except StoreUnavailable as error:
                telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

        task = asyncio.create_task(drain())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _log_attempt(delivery: Delivery, attempt: Attempt, *, is_late: bool) -> None:
    kind = "event" if delivery.type != NOTIFICATION_TYPE else "late" if is_late else "passThrough"
    outcome = str(attempt.status) if attempt.status else (attempt.error or "").partition(":")[0]
    telemetry.RELAY_DELIVERIES.add(outcome=outcome, target=delivery.destination.target, kind=kind)
    telemetry.RELAY_LATENCY.add(attempt.latency.total_seconds(), outcome=outcome)
    if delivery.status is DeliveryStatus.PENDING:
        telemetry.RELAY_FAILED(
            target=delivery.destination.target,
            callId=delivery.call_id,
            type=delivery.type,
            status=attempt.status,
            error=attempt.error,
            attempts=len(delivery.attempts),
        )


def log_dead(delivery: Delivery) -> None:
    """Log a delivery that is dead, after it is on record as that."""
    if delivery.status is DeliveryStatus.DEAD:
        last = delivery.attempts[-1] if delivery.attempts else None
        telemetry.RELAY_DEAD(
            target=delivery.destination.target,
            callId=delivery.call_id,
            type=delivery.type,
            deliveryId=delivery.id,
            error=(last.error or str(last.status)) if last else None,
            attempts=len(delivery.attempts),
        )
