"""The leases of a sweep: in which order they are taken, and how many are held in memory."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

from shared.domain.leases import Lease, TenantApp


class TenantFairQueue:
    """Leases that wait for their keepAlive, taken in order, except that a tenant without room is passed over.

    Parameters
    ----------
    leases
        The leases, earliest deadline first.
    has_room
        True if one more lease of a tenant may be taken now.
    """

    def __init__(self, leases: Iterable[Lease], has_room: Callable[[TenantApp], bool]) -> None:
        self._leases = deque(leases)
        self._has_room = has_room
        self._passed_over: dict[TenantApp, deque[Lease]] = {}  # by tenant, in order

    def __len__(self) -> int:
        return len(self._leases) + sum(map(len, self._passed_over.values()))

    def pop(self) -> Lease | None:
        """Take the next lease whose tenant has room; None if there is none now."""
        for tenant_app in self._passed_over:
            if self._has_room(tenant_app):
                return self._pop_passed_over(tenant_app)
        while self._leases:
            lease = self._leases.popleft()
            if lease.tenant_app not in self._passed_over and self._has_room(lease.tenant_app):
                return lease
            self._passed_over.setdefault(lease.tenant_app, deque()).append(lease)
        return None

    def requeue(self, leases: Iterable[Lease]) -> None:
        """Put back leases that were taken, so that another sweep renews them."""
        self._leases.extend(leases)

    def remaining(self) -> list[Lease]:
        """Return the leases that were not taken, in no order."""
        return [*self._leases, *(lease for leases in self._passed_over.values() for lease in leases)]

    def _pop_passed_over(self, tenant_app: TenantApp) -> Lease:
        leases = self._passed_over[tenant_app]
        lease = leases.popleft()
        if not leases:
            del self._passed_over[tenant_app]
        return lease


class LeaseBudget:
    """Bounds the leases that a process holds in memory.

    A shard may be read while fewer than `limit` leases are outstanding, so small shards are swept concurrently and
    large ones roughly one at a time. Concurrent sweeps matter because one slow tenant then holds up no other shard.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outstanding = 0
        self._reading = asyncio.Lock()
        self._has_capacity = asyncio.Event()
        self._has_capacity.set()

    @asynccontextmanager
    async def wait_for_capacity(self) -> AsyncGenerator[None]:
        """Wait for the turn to read a shard, and hold it until the end of the block, which reserves its leases."""
        async with self._reading:
            await self._has_capacity.wait()
            yield

    def reserve(self, count: int) -> "LeaseReservation":
        """Count the leases of a shard as outstanding."""
        self.adjust(count)
        return LeaseReservation(self, count)

    def adjust(self, by: int) -> None:
        """Change the number of outstanding leases."""
        self._outstanding += by
        if self._outstanding < self._limit:
            self._has_capacity.set()
        else:
            self._has_capacity.clear()


class LeaseReservation:
    """The outstanding leases of one shard."""

    def __init__(self, budget: LeaseBudget, count: int) -> None:
        self._budget = budget
        self._count = count

    def release_one(self) -> None:
        """Count one lease as done."""
        self._count -= 1
        self._budget.adjust(-1)

    def release(self) -> None:
        """Count the others as done too: they are left to another sweep."""
        self._budget.adjust(-self._count)
        self._count = 0
