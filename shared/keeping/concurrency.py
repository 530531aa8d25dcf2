"""How many requests are in flight at once, and how tenants share them."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from shared.domain.leases import Lease, TenantApp

MAX_BESIDE_SWEEPS = 8  # keepAlives of registrations and retries; the host works on four messages at once


class ConcurrencyLimiter:
    """So many requests in flight in a process; three quarters of them at most for one tenant while sweeps have others.

    Without that, a tenant whose answers take seconds would hold all slots, and the calls of the others would wait.

    A few more, `beside_sweeps`, are for keepAlives of registrations and retries: in the queue of the sweeps they would
    wait behind all workers of all shards.
    """

    def __init__(self, limit: int) -> None:
        self.beside_sweeps = asyncio.Semaphore(MAX_BESIDE_SWEEPS)
        self._free = asyncio.Semaphore(limit)
        self._max_per_tenant_app = max(1, limit * 3 // 4)
        self._in_use: Counter[TenantApp] = Counter()
        self._active: Counter[TenantApp] = Counter()  # tenants of the sweeps that run
        self._changed: asyncio.Event | None = None

    def has_room(self, tenant_app: TenantApp) -> bool:
        """Whether the tenant may have one more."""
        return len(self._active) <= 1 or self._in_use[tenant_app] < self._max_per_tenant_app

    @contextmanager
    def sharing_with(self, tenant_apps: Iterable[TenantApp]) -> Iterator[None]:
        """A sweep of these tenants' calls runs as long as this lasts."""
        distinct = set(tenant_apps)
        self._active.update(distinct)
        try:
            yield
        finally:
            for tenant_app in distinct:
                self._decrement(self._active, tenant_app)

    @asynccontextmanager
    async def acquire(self, choose: Callable[[], Lease | None]) -> AsyncGenerator[Lease | None]:
        """Hold a slot for the lease that `choose` names as soon as one is free. None: for nobody."""
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
        """Wait until somebody may have room who had none."""
        self._changed = self._changed or asyncio.Event()
        await self._changed.wait()

    def _decrement(self, counter: Counter[TenantApp], tenant_app: TenantApp) -> None:
        counter[tenant_app] -= 1
        if not counter[tenant_app]:
            del counter[tenant_app]
        if self._changed:  # nearly always nobody waits
            self._changed.set()
            self._changed = None
