"""Reopening of deliveries: dead and disabled ones become pending again, in the order of their calls."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, replace

from shared.clock import Clock
from shared.domain.deliveries import Delivery, DeliveryStatus, LaneKey
from shared.relay.breaker import Destinations, Obstacle
from shared.storage.outbox import OutboxStore
from shared.storage.store import retry_conflicts

MAX_CONCURRENT_LANES = 32  # that are reopened at the same time

type Check = Callable[[Delivery], Awaitable[bool]]
"""Takes a delivery as it is now, with its body. True if it may be reopened. It may raise an error instead."""


@dataclass(frozen=True)
class Reopening:
    """Makes deliveries pending again. A repetition goes on after a crash: a reopened delivery is not reopened again."""

    outbox: OutboxStore
    destinations: Destinations
    clock: Clock

    async def reopen(self, call_id: str, sequence: int, check: Check, *, is_replay: bool) -> Delivery | None:
        """Reopen one delivery. Return it as it was written, or None if it is gone or the check is false.

        Parameters
        ----------
        is_replay
            True: it is attempted even at a destination that is switched off.

        Raises
        ------
        StoreUnavailable
            The store is away, or too many wrote the delivery or its lane at the same time.
        """

        async def attempt() -> Delivery | None:
            stored = await self.outbox.get(call_id, sequence)
            if stored is None or not await check(stored.value):
                return None
            now = self.clock.now()
            after = replace(
                stored.value, status=DeliveryStatus.PENDING, retry_since=now, next_attempt_at=now, is_replay=is_replay
            )
            return await self.outbox.reopen(stored, after, now)

        return await retry_conflicts(attempt, f"The delivery {sequence} of call {call_id}")

    async def reopen_all(
        self, *found: AsyncIterable[Delivery], check: Check, is_replay: bool
    ) -> dict[LaneKey, list[Delivery]]:
        """Reopen deliveries, in their order in each lane. Return those that are pending again, by lane.

        No message is sent, so nothing is attempted before all of them are pending. Only their keys are in memory.

        Raises
        ------
        StoreUnavailable
            Some could not be reopened. The others are pending again.
        """
        sequences: dict[LaneKey, set[int]] = defaultdict(set)
        for deliveries in found:
            async for delivery in deliveries:
                sequences[delivery.lane].add(delivery.sequence)
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_LANES)

        async def reopen_lane(key: LaneKey) -> tuple[LaneKey, list[Delivery]]:
            async with semaphore:
                reopened = [
                    await self.reopen(key.call_id, sequence, check, is_replay=is_replay)
                    for sequence in sorted(sequences[key])
                ]
                return key, [delivery for delivery in reopened if delivery]

        results = await asyncio.gather(*map(reopen_lane, sequences), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return {key: reopened for key, reopened in results if reopened}  # type: ignore[misc] # no errors are left

    async def reopen_held(self, target: str, *, only_enabled: bool) -> int:
        """Reopen the disabled deliveries of a target whose bodies are on record. Return their number.

        Parameters
        ----------
        only_enabled
            True: leave those whose destination is switched off.
        """

        async def check(delivery: Delivery) -> bool:
            is_held = delivery.status is DeliveryStatus.DISABLED and delivery.body is not None
            return is_held and not (only_enabled and self._is_disabled(delivery))

        async def held() -> AsyncIterable[Delivery]:
            async for delivery in self.outbox.scan_of_target(DeliveryStatus.DISABLED, target):
                if not (only_enabled and self._is_disabled(delivery)):
                    yield delivery

        reopened = await self.reopen_all(held(), check=check, is_replay=False)
        return sum(map(len, reopened.values()))

    def _is_disabled(self, delivery: Delivery) -> bool:
        blocked = self.destinations.blocked(delivery.destination)
        return blocked is not None and blocked.obstacle is Obstacle.DISABLED
