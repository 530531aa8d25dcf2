"""The care of the outbox: attempts that are overdue, and bodies and states that were kept long enough."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared import telemetry
from shared.clock import Clock
from shared.errors import StoreUnavailable, safe_message
from shared.relay.deliverer import Deliverer
from shared.storage.outbox import OutboxStore
from shared.storage.rows import SHARDS

CLEANING_INTERVAL = timedelta(hours=1)  # between two deletions by the same process
MAX_CLEANED = 500  # bodies of a shard; the next run deletes the rest


@dataclass(slots=True)
class OutboxCare:
    """Finds what the queue has forgotten. The minute timer and each sweep run it; a sweep also deletes old rows.

    Parameters
    ----------
    retention
        The time for which the bodies of dead and disabled deliveries are kept.
    """

    deliverer: Deliverer
    outbox: OutboxStore
    clock: Clock
    retention: timedelta
    _cleaned_at: datetime | None = field(default=None, init=False)

    async def run(self, *, deletes_old: bool = False, until: datetime | None = None) -> None:
        """Attempt what is overdue, and delete what is too old, once an hour. A failure is logged; the next run goes on.

        Parameters
        ----------
        deletes_old
            True in a sweep. The minute timer may run in a new process each time, which would delete each time.
        until
            The last time at which an attempt begins: a sweep ends before the host ends it. None: after two minutes.
        """
        try:
            await self.deliverer.look(until=until)
            if deletes_old:
                await self._delete_old()
        except StoreUnavailable as error:
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

    async def _delete_old(self) -> None:
        now = self.clock.now()
        if self._cleaned_at and now - self._cleaned_at < CLEANING_INTERVAL:
            return
        for shard in range(SHARDS):
            await self.outbox.delete_old_bodies(shard, now - self.retention, MAX_CLEANED)
        await self.deliverer.destinations.forget_idle()
        self._cleaned_at = now
