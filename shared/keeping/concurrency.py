"""Limits the keepAlive requests in flight, and shares the slots among tenants."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from shared.domain.leases import Lease, TenantApp

MAX_BESIDE_SWEEPS = 8  # keepAlives of registrations and retries; the host handles four messages at once


class ConcurrencyLimiter:
    """The slots of a process. While sweeps have calls of several tenants, one tenant gets three quarters at most.

    Otherwise a tenant whose answers take seconds would hold all slots, and the calls of the others would wait.

    `beside_sweeps` are a few more slots for the keepAlives of registrations and retries. If they shared the slots of
    the sweeps, they would wait behind all workers of all shards.
    """

    def __init__(self, limit: int) -> None:
        self.beside_sweeps = asyncio.Semaphore(MAX_BESIDE_SWEEPS)
        self._free = asyncio.Semaphore(limit)
        self._max_per_tenant_app = max(1, limit * 3 // 4)
        self._in_use: Counter[TenantApp] = Counter()
        self._active: Counter[TenantApp] = Counter()  # the running sweeps that have calls of a tenant
        self._changed: asyncio.Event | None = None

    def has_room(self, tenant_app: TenantApp) -> bool:
        """True if the tenant may have one more slot."""
        return len(self._active) <= 1 or self._in_use[tenant_app] < self._max_per_tenant_app

    @contextmanager
    def sharing_with(self, tenant_apps: Iterable[TenantApp]) -> Iterator[None]:
        """Count these tenants as having calls in a sweep until the end of the block."""
        distinct = set(tenant_apps)
        self._active.update(distinct)
        try:
            yield
        finally:
            for tenant_app in distinct:
                self._decrement(self._active, tenant_app)

    @asynccontextmanager
    async def acquire(self, choose: Callable[[], Lease | None]) -> AsyncGenerator[Lease | None]:
        """Wait for a free slot, and hold it for the lease that `choose` returns then. None: hold it for no tenant."""
        async with self._free:
            lease = choose()
            if lease is None:
                yield None
                return
            tenant_app = lease.tenant_app
            self._in_use[tenant_app] += 1
            try:
                yield lease
            finally:
                self._decrement(self._in_use, tenant_app)

    async def wait_for_change(self) -> None:
        """Wait until a tenant that had no room may have some."""
        self._changed = self._changed or asyncio.Event()
        await self._changed.wait()

    def _decrement(self, counter: Counter[TenantApp], tenant_app: TenantApp) -> None:
        counter[tenant_app] -= 1
        if not counter[tenant_app]:
            del counter[tenant_app]
        if self._changed:  # None nearly always: no worker waits
            self._changed.set()
            self._changed = None
