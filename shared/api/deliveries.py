"""The management requests about deliveries: lists, replays, and the enabling of a target."""

import asyncio
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from shared import telemetry
from shared.api.records import Records
from shared.config.apps import Apps
from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.deliveries import Delivery, DeliveryStatus, LaneKey, is_valid_to
from shared.domain.scopes import Scope
from shared.errors import DeliveryNotFound, DeliveryNotReplayable, LaterDeliveryDelivered, TargetNotFound
from shared.relay.breaker import CACHE_TTL, Destinations
from shared.relay.reopening import Reopening
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.outbox import OutboxStore, is_within
from shared.storage.relay_queue import Look, RelayMessage, deliver_message

MAX_CONCURRENT_REQUESTS = 16  # to storage, about lanes
REPLAYABLE = (DeliveryStatus.DEAD, DeliveryStatus.DISABLED)
SECOND_LOOK = CACHE_TTL + timedelta(seconds=5)  # after an enabling: by then each instance has read the new state


@dataclass(frozen=True)
class DeliveryListing:
    """A page of deliveries. `continuation` asks for the next page."""

    deliveries: list[Delivery]
    continuation: str | None


@dataclass(frozen=True)
class Deliveries:
    """Lists and replays deliveries for one caller. Deliveries outside of the caller's scope are treated as absent.

    Parameters
    ----------
    records
        The calls, with the scope of the caller and the signer of continuations.
    targets
        The targets of the relay; none if it is off.
    body_retention
        RELAY_BODY_RETENTION: after it no body is used, also if no sweep has deleted it yet.
    """

    records: Records
    outbox: OutboxStore
    reopening: Reopening
    destinations: Destinations
    targets: RelayTargets
    queue: BestEffortQueue[RelayMessage]
    apps: Apps
    body_retention: timedelta

    @property
    def scope(self) -> Scope:
        """The scope of the caller."""
        return self.records.scope

    def scoped_to(self, scope: Scope) -> Self:
        """Return a copy for a caller with this scope."""
        return replace(self, records=self.records.scoped_to(scope.with_appless_calls(self.apps.default.app_id)))

    async def list_of_call(self, call_id: str) -> list[Delivery]:
        """Return the deliveries of a call, oldest first. Raise `CallNotFound` if the call is not on record."""
        await self.records.check_exists(call_id)
        found = [each for each in await self.outbox.list_of_call(call_id) if is_within(self.scope, each)]
        return await self._with_next_attempts(found)

    async def list_page(self, status: DeliveryStatus, limit: int, continuation: str | None, by: str) -> DeliveryListing:
        """Return a page of deliveries, newest first.

        Parameters
        ----------
        limit
            The largest number of deliveries on the page.
        continuation
            The continuation of the page before, or None for the first page.
        by
            The caller's name. A continuation is valid only for the caller that received it.

        Raises
        ------
        InvalidRequest
            The continuation is not one of this list and caller.
        """
        signer = self.records.signer
        position = None if continuation is None else await signer.verify(continuation, by)
        page = await self.outbox.list_page(status, self.scope, limit=limit, continuation=position)
        following = None if page.continuation is None else await signer.sign(page.continuation, by)
        return DeliveryListing(await self._with_next_attempts(page.records), following)

    async def replay(self, delivery_id: str, *, force: bool) -> Delivery:
        """Make a dead or disabled delivery pending again, and ask the queue to attempt it now.

        Parameters
        ----------
        force
            True: also if a later delivery of one of its calls to the same destination was delivered.

        Raises
        ------
        DeliveryNotFound
            It is not on record, or outside of the scope of the caller.
        DeliveryNotReplayable
            It is pending or delivered, or nothing is left that could be sent.
        TargetNotFound
            Its target is not configured any more.
        LaterDeliveryDelivered
            A later delivery was delivered, and `force` is false.
        """
        stored = await self.outbox.find(delivery_id)
        if stored is None or not is_within(self.scope, stored.value):
            raise DeliveryNotFound(delivery_id)

        async def check(delivery: Delivery) -> bool:
            target = self.targets.get(delivery.destination.target)
            if obstacle := _obstacle(delivery, target, self._kept_since):
                raise DeliveryNotReplayable(f"The delivery {delivery_id} {obstacle}")
            if target is None:
                raise TargetNotFound(delivery.destination.target)
            if not force and await self.outbox.has_delivered_after(delivery):
                raise LaterDeliveryDelivered(delivery_id)
            return True

        found = stored.value
        replayed = await self.reopening.reopen(found.call_id, found.sequence, check, is_replay=True)
        if replayed is None:
            raise DeliveryNotFound(delivery_id)
        (replayed,) = await self._with_next_attempts([replayed])
        await self.queue.send(deliver_message(replayed.lane))
        telemetry.RELAY_REPLAYED(target=replayed.destination.target, count=1)
        return replayed

    async def replay_span(self, name: str, first: datetime, last: datetime, *, force: bool) -> int:
        """Replay the dead and disabled deliveries to a target that were received between two times, ends included.

        Those that cannot be replayed are left out. Without `force`, so are those behind a later delivery that was
        delivered. A repetition replays only what is dead or disabled then.

        Returns
        -------
        int
            How many are pending again.

        Raises
        ------
        TargetNotFound
            There is no such target, or it is not of an app of the caller.
        """
        target = self._get_target(name)

        async def check(delivery: Delivery) -> bool:
            if _obstacle(delivery, target, self._kept_since):
                return False
            return force or not await self.outbox.has_delivered_after(delivery)

        found = [self._within_scope(self.outbox.scan_of_target(status, name, first, last)) for status in REPLAYABLE]
        reopened = await self.reopening.reopen_all(*found, check=check, is_replay=True)
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

        async def wake(lane: LaneKey) -> None:
            async with semaphore:
                await self.queue.send(deliver_message(lane))

        await asyncio.gather(*map(wake, reopened))
        count = sum(map(len, reopened.values()))
        telemetry.RELAY_REPLAYED(target=name, count=count)
        return count

    async def enable(self, name: str) -> int:
        """Switch a target on again, and make what was held pending, in order. It is safe to repeat.

        The deliveries that are held join their lanes before the target is switched on, so that no new one overtakes
        them. What is held meanwhile follows: at once, and after the time for which other instances know the old state.

        Returns
        -------
        int
            How many deliveries are pending again.

        Raises
        ------
        TargetNotFound
            There is no such target, or it is not of an app of the caller.
        StoreUnavailable
            The store or the queue is away. A repetition does the rest.
        """
        self._get_target(name)
        await self.queue.send_or_raise(Look(target=name), SECOND_LOOK)
        count = await self.reopening.reopen_held(name, only_enabled=False)
        await self.destinations.enable(name)
        await self.destinations.refresh(force=True)
        count += await self.reopening.reopen_held(name, only_enabled=True)
        await self.queue.send(Look(target=name))
        telemetry.RELAY_ENABLED(target=name, count=count)
        return count

    def _get_target(self, name: str) -> RelayTarget:
        """Return a target. Raise `TargetNotFound` if there is none, or if it is not of an app of the caller."""
        target = self.targets.get(name)
        if target is None or not (self.scope.is_unrestricted or self._is_own(target)):
            raise TargetNotFound(name)
        return target

    def _is_own(self, target: RelayTarget) -> bool:
        return target.app_id is not None and target.app_id in (self.scope.apps or ())

    async def _with_next_attempts(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Return deliveries with the time of the next attempt of their lane, if they are the first in it.

        A rest or an open breaker postpones the lane, and its row alone has the new time.
        """
        found = list(deliveries)
        lanes = list({each.lane for each in found if each.status is DeliveryStatus.PENDING})
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

        async def read(lane: LaneKey) -> tuple[int, datetime | None] | None:
            async with semaphore:
                return await self.outbox.next_attempt(lane)

        firsts = dict(zip(lanes, await asyncio.gather(*map(read, lanes)), strict=True))
        return [_with_next_attempt(each, firsts.get(each.lane)) for each in found]

    @property
    def _kept_since(self) -> datetime:
        """The receipt of the oldest delivery whose body is still used."""
        return self.records.clock.now() - self.body_retention

    async def _within_scope(self, deliveries: AsyncIterable[Delivery]) -> AsyncIterable[Delivery]:
        async for delivery in deliveries:
            if is_within(self.scope, delivery):
                yield delivery


def _with_next_attempt(delivery: Delivery, first: tuple[int, datetime | None] | None) -> Delivery:
    is_first = delivery.status is DeliveryStatus.PENDING and first is not None and first[0] == delivery.sequence
    return replace(delivery, next_attempt_at=first[1] if is_first and first else None)


def _obstacle(delivery: Delivery, target: RelayTarget | None, kept_since: datetime) -> str | None:
    """Return why a delivery cannot be replayed, as the rest of a sentence; None if it can."""
    match delivery.status:
        case DeliveryStatus.PENDING:
            return "is pending: it is attempted anyway."
        case DeliveryStatus.DELIVERED:
            return "was delivered, and its body is deleted."
    if delivery.wants_answer:
        return "wanted its answer in the response to Graph. It is attempted only once, and its body is not stored."
    if delivery.body is None or delivery.received_at < kept_since:
        return "has no body any more: it was deleted after RELAY_BODY_RETENTION, or was too large to be stored."
    if target and target.wants_to and not is_valid_to(delivery.destination.to or ""):
        return "has no valid `to`, which the URL of its target needs."
    return None
