"""Tenants that Graph throttles: how long their calls wait, and that no other tenant or app does."""

from shared.domain.leases import TenantApp
from shared.errors import GraphThrottled
from tests.support.keeping import MINUTE, OTHER, SECOND, TENANT, World
from tests.support.virtual import refuse

MAX_JITTER = MINUTE / 2  # of the retries, see `Renewer._jitter`


def throttled(seconds: float) -> GraphThrottled:
    return GraphThrottled("429 (test)", status=429, retry_after=seconds)


class TestSweep:
    async def test_tenant_waits_as_long_as_graph_asks_and_others_do_not(self, world: World) -> None:
        slow = await world.add_calls(20, prefix="slow")
        quick = await world.add_calls(20, prefix="quick", tenant=OTHER)
        world.graph.faults[TENANT] = refuse(throttled(5.5), times=1)
        began = world.clock.now()
        await world.sweep()
        assert world.keep_alives(*slow, *quick) == [1] * 40
        assert max(world.graph.calls[call_id].keep_alives[0] - began for call_id in slow) >= 5.5 * SECOND
        assert max(world.graph.calls[call_id].keep_alives[0] - began for call_id in quick) < 5.5 * SECOND
        assert (await world.read("slow-3")).failing is None

    async def test_another_app_of_the_tenant_does_not_wait(self, world: World) -> None:
        await world.add_call("of-a", app="app-a")
        await world.add_call("of-b", app="app-b")
        world.graph.faults["app-a"] = refuse(throttled(600))
        await world.sweep()
        assert world.keep_alives("of-a", "of-b") == [0, 1]
        backoff = world.process.renewer.backoff
        assert backoff.current(TenantApp(TENANT, "app-a"))
        assert not backoff.current(TenantApp(TENANT, "app-b"))


class TestRetries:
    async def test_come_after_retry_after(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["call"] = refuse(throttled(600))
        await world.sweep()
        failing = (await world.read()).failing
        assert failing is not None
        assert failing.reason == "throttled"
        wait = failing.retry_at - world.clock.now()
        assert 10 * MINUTE <= wait <= 10 * MINUTE + MAX_JITTER

    async def test_do_not_come_all_at_once(self, world: World) -> None:
        ids = await world.add_calls(20)
        world.graph.faults["*"] = refuse(throttled(600))
        await world.sweep()
        calls = [await world.read(call_id) for call_id in ids]
        seconds = {int(call.failing.retry_at.timestamp()) for call in calls if call.failing}
        assert len(seconds) >= len(ids) / 2
        assert max(seconds) - min(seconds) <= MAX_JITTER.total_seconds() + 1  # whole seconds

    async def test_wait_for_the_tenant(self, world: World) -> None:
        await world.add_calls(30)
        world.graph.faults[TENANT] = refuse(throttled(300))
        await world.sweep()
        before = world.graph.requests["keepAlive"]
        await world.advance(5 * MINUTE + MAX_JITTER + 6 * SECOND)
        await world.drain()
        assert world.graph.requests["keepAlive"] - before == 1  # the first is throttled again, and the others wait


class TestOutsideOfSweeps:
    async def test_graph_is_not_asked_for_a_tenant_that_has_to_wait(self, world: World) -> None:
        await world.add_call("first")
        await world.add_call("second", age=40 * MINUTE)
        world.graph.faults["first"] = refuse(throttled(120))
        for call_id in ("first", "second"):
            await world.run(world.process.renewer.renew_now((await world.read(call_id)).lease, None))
        assert world.graph.requests["keepAlive"] == 1
        failing = (await world.read("second")).failing
        assert failing
        assert (failing.reason, failing.status) == ("throttled", 429)
        assert 2 * MINUTE <= failing.retry_at - world.clock.now() < 2 * MINUTE + MAX_JITTER
