"""The lanes: claims on them, results that are stored with them, and deliveries that stand in several of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared import telemetry
from shared.clock import Clock
from shared.domain.deliveries import Delivery, DeliveryStatus, Lane, LaneKey
from shared.errors import StoreConflict, StoreUnavailable
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.delivery_codec import Barrier
from shared.storage.outbox import OutboxStore
from shared.storage.relay_queue import RelayMessage, deliver_message
from shared.storage.stored import Stored

# Of a lane. A first attempt: storing 20 s, two attempts of 10 s with a pause of 1 s, and a write of 10 s. A late one:
# reads of 20 s, 15 s, and a write of 10 s.
CLAIM = timedelta(seconds=60)
SUCCESSOR_WAIT = timedelta(seconds=1)  # until a delivery about several calls looks again for what it waits for
MAX_CONCURRENT_WRITES = 8  # for one delivery: it may be about hundreds of calls, and Graph waits
MAX_CONFLICTS = 10  # of one write: each means that a notification was added to the lane


@dataclass(frozen=True, slots=True)
class Lanes:
    """Writes lanes. Every method but `wake` may raise `StoreUnavailable`.

    A worker that holds a claim has the ETag of the lane's row. Each delivery that is added changes the row, so that a
    worker deletes a lane only if nothing was added since it read the pending deliveries.
    """

    outbox: OutboxStore
    queue: BestEffortQueue[RelayMessage]
    clock: Clock

    async def settle(
        self, stored: Stored[Delivery], lane: Stored[Lane], after: Delivery, *, is_last: bool
    ) -> Stored[Lane] | None:
        """Store the result of an attempt with its lane. Return the lane if this worker goes on with it.

        Parameters
        ----------
        stored
            The delivery as it was read or created.
        lane
            Its lane, with the claim of this worker.
        is_last
            True if nothing else was pending in the lane as it was read.

        Raises
        ------
        StoreUnavailable
            The store does not answer, or there were too many conflicts. A look finds the lane when its claim has ended.
        """
        is_done = after.status is not DeliveryStatus.PENDING
        for _ in range(MAX_CONFLICTS):
            try:
                _, saved = await self.outbox.save(stored, after, (lane, self._next(lane.value, after, is_last=is_last)))
            except StoreConflict:
                found = await self._still_claimed(lane)
                fresh = await self.outbox.get(after.call_id, after.sequence)
            else:
                await self._report(after)
                return saved if is_done else None
            if fresh is not None and _is_same(fresh.value, after):  # our own write: its answer was lost
                await self._report(after)
                return found if is_done else None
            if fresh is None or fresh.value.status is not DeliveryStatus.PENDING:
                return found
            if found is None:
                await self._save_alone(fresh, after)
                return None
            stored, lane, is_last = fresh, found, False
        raise StoreUnavailable(f"A lane of call {after.call_id} is being written by too many at once.")

    async def release(self, lane: Stored[Lane], next_attempt_at: datetime) -> None:
        """Give up the claim on a lane until the next attempt, which no failure has caused."""
        for _ in range(MAX_CONFLICTS):
            try:
                await self.outbox.put_lane(lane, _idle(lane.value, next_attempt_at))
            except StoreConflict:
                if found := await self._still_claimed(lane):
                    lane = found
                    continue
            await self.wake(lane.value.key, next_attempt_at)  # after a conflict too: this write's answer may be lost
            return

    async def close(self, lane: Stored[Lane]) -> Stored[Lane] | None:
        """Delete a lane that has nothing pending. If something was added meanwhile, return it as it is now."""
        try:
            await self.outbox.delete_lane(lane)
        except StoreConflict:
            return await self._still_claimed(lane)
        return None

    async def wake(self, key: LaneKey, at: datetime | None = None) -> None:
        """Send the message of a lane's next attempt. None: now."""
        due = at or self.clock.now()
        await self.queue.send(deliver_message(key, due), max(due - self.clock.now(), timedelta()))

    # Deliveries about several calls

    async def predecessor_ends_at(self, delivery: Delivery) -> datetime | None:
        """Return when to look again, if an earlier delivery is pending in the lane of another call; else None."""
        for call_id in delivery.call_ids[1:]:
            key = LaneKey(call_id, delivery.destination)
            if await self.outbox.pending_of_lane(key, below=delivery.sequence):
                return await self._next_look(key)
        return None

    async def pass_barrier(self, barrier: Barrier, lane: Stored[Lane], *, is_last: bool) -> Stored[Lane] | None:
        """Go on behind a delivery about several calls if it is done; else leave the lane until its next attempt."""
        stored = await self.outbox.get(barrier.primary_call_id, barrier.sequence)
        if stored is not None and stored.value.status is DeliveryStatus.PENDING:
            await self.release(lane, await self._next_look(stored.value.lane))
            return None
        return await self._close_barrier(barrier, lane, is_last=is_last)

    async def finish_others(self, delivery: Delivery, claimed: Sequence[Stored[Lane]] = ()) -> list[Stored[Lane]]:
        """Let the lanes of the other calls of a delivery go on after an attempt.

        Parameters
        ----------
        delivery
            As it is after the attempt.
        claimed
            Those lanes, if this process has opened them with the delivery.

        Returns
        -------
        list[Stored[Lane]]
            The lanes that this process goes on with.
        """
        by_key = {lane.value.key: lane for lane in claimed}
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_WRITES)

        async def finish_one(call_id: str) -> Stored[Lane] | None:
            barrier = Barrier(call_id, delivery.call_id, delivery.sequence, delivery.destination)
            async with semaphore:
                return await self._finish_other(delivery, barrier, by_key.get(barrier.lane))

        rest = await asyncio.gather(*map(finish_one, delivery.call_ids[1:]))
        return [lane for lane in rest if lane]

    async def _finish_other(
        self, delivery: Delivery, barrier: Barrier, lane: Stored[Lane] | None
    ) -> Stored[Lane] | None:
        if delivery.status is not DeliveryStatus.PENDING:
            return await (self._close_barrier(barrier, lane, is_last=True) if lane else self._open_up(barrier))
        if lane:
            await self.release(lane, (delivery.next_attempt_at or self.clock.now()) + SUCCESSOR_WAIT)
        return None

    async def _open_up(self, barrier: Barrier) -> None:
        """Close a barrier in a lane that this worker has not claimed, and wake the lane: the next may follow now."""
        for _ in range(MAX_CONFLICTS):
            found = await self.outbox.get_lane(barrier.lane)
            if found is None:
                return
            lane = replace(found.value, appended=found.value.appended + 1)  # so that a worker sees a change
            if lane.claimed_until is None:
                lane = replace(lane, next_attempt_at=self.clock.now())
            try:
                await self.outbox.close_barrier(barrier, (found, lane))
            except StoreConflict:
                continue
            await self.wake(barrier.lane)
            return

    async def _close_barrier(self, barrier: Barrier, lane: Stored[Lane], *, is_last: bool) -> Stored[Lane] | None:
        for _ in range(MAX_CONFLICTS):
            after = None if is_last else self._prolonged(lane.value)
            try:
                return await self.outbox.close_barrier(barrier, (lane, after))
            except StoreConflict:
                found = await self._still_claimed(lane)
                if found is None:
                    return None
                lane, is_last = found, False
        raise StoreUnavailable(f"A lane of call {barrier.call_id} is being written by too many at once.")

    async def _next_look(self, key: LaneKey) -> datetime:
        """Return a time shortly after the next attempt of a lane."""
        found = await self.outbox.get_lane(key)
        now = self.clock.now()
        if found and found.value.next_attempt_at is None and not found.value.claimed_until:
            await self.wake(key)
        return max((found.value.next_attempt_at if found else None) or now, now) + SUCCESSOR_WAIT

    # Parts of the above

    async def _still_claimed(self, lane: Stored[Lane]) -> Stored[Lane] | None:
        """Return the lane as it is on record, if this worker's claim on it still holds."""
        found = await self.outbox.get_lane(lane.value.key)
        return found if found and found.value.claim_id == lane.value.claim_id else None

    async def _report(self, after: Delivery) -> None:
        if after.status is DeliveryStatus.PENDING:
            await self.wake(after.lane, after.next_attempt_at)
        log_dead(after)

    async def _save_alone(self, stored: Stored[Delivery], after: Delivery) -> None:
        """Store a result although the lane belongs to another worker: a delivered one must not be sent again."""
        if after.status is DeliveryStatus.DELIVERED:
            try:
                await self.outbox.save(stored, after)
            except StoreConflict:  # the other worker has stored its own result
                return

    def _next(self, lane: Lane, after: Delivery, *, is_last: bool) -> Lane | None:
        if after.status is DeliveryStatus.PENDING:
            return replace(_idle(lane, after.next_attempt_at), oldest_received_at=after.retry_since)
        return None if is_last else self._prolonged(lane)

    def _prolonged(self, lane: Lane) -> Lane:
        return replace(lane, claimed_until=self.clock.now() + CLAIM)


def log_dead(delivery: Delivery) -> None:
    """Log a delivery that is given up."""
    if delivery.status is not DeliveryStatus.DEAD:
        return
    last = delivery.attempts[-1] if delivery.attempts else None
    telemetry.RELAY_DEAD(
        target=delivery.destination.target,
        callId=delivery.call_id,
        type=delivery.type,
        deliveryId=delivery.id,
        error=(last.error or str(last.status)) if last else None,
        attempts=len(delivery.attempts),
    )


def _idle(lane: Lane, next_attempt_at: datetime | None) -> Lane:
    return replace(lane, claim_id="", claimed_until=None, next_attempt_at=next_attempt_at)


def _is_same(found: Delivery, written: Delivery) -> bool:
    return (found.status, found.attempts, found.next_attempt_at) == (
        written.status,
        written.attempts,
        written.next_attempt_at,
    )
