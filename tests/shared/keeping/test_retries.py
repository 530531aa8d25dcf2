"""A call whose keepAlive fails: its chain of retries, its end, and writes that come late."""

from dataclasses import replace

import pytest

from shared.domain.calls import Status, TerminationSource
from shared.domain.leases import Timing
from shared.domain.notifications import ResultInfo
from shared.errors import GraphForbidden, GraphRejected, GraphUnavailable, StoreUnavailable, TokenUnavailable
from shared.graph.client import GraphCall
from shared.storage.best_effort_queue import MAX_PUT_BACKS
from shared.storage.wakeup_queue import Renew, SweepShard
from tests.support.keeping import MINUTE, TICK, BrokenStore, World, unavailable
from tests.support.virtual import VirtualClock, refuse


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            pytest.param(GraphUnavailable("503", status=503), "unavailable", id="503"),
            pytest.param(GraphUnavailable("time-out"), "unavailable", id="no answer"),
            pytest.param(GraphForbidden("7504", status=403, subcode=7504), "forbidden", id="403/7504"),
            pytest.param(GraphForbidden("7505", status=403, subcode=7505), "forbidden", id="403/7505"),
            pytest.param(GraphRejected("8501", status=400, subcode=8501), "rejected", id="400/8501"),
            pytest.param(GraphRejected("8519", status=409, subcode=8519), "rejected", id="409/8519"),
            pytest.param(GraphRejected("401 twice", status=401), "rejected", id="401"),
            pytest.param(TokenUnavailable("no token"), "noToken", id="no token"),
            pytest.param(RuntimeError("a bug"), "internalError", id="a bug"),
        ],
    )
    async def test_does_not_end_a_call(self, world: World, error: Exception, reason: str) -> None:
        await world.add_call("troubled")
        await world.add_call("fine")
        world.graph.faults["troubled"] = refuse(error)
        await world.sweep()
        call = await world.read("troubled")
        assert call.status is Status.ACTIVE
        assert call.failing is not None
        assert (call.failing.reason, call.failing.attempts) == (reason, 1)
        assert world.keep_alives("fine") == [1]

    async def test_keeps_the_last_proved_renewal(self, world: World) -> None:
        await world.add_call()
        await world.sweep()
        renewed = world.clock.now()
        await world.advance(TICK)
        world.graph.faults["call"] = unavailable()
        await world.sweep()
        assert (await world.read()).lease.last_renewal(await world.watermark(), Timing()) == renewed

    async def test_of_30_minutes_is_logged_as_at_risk(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        await world.add_call(age=29 * MINUTE)
        world.graph.faults["call"] = refuse(GraphForbidden("7504", status=403, subcode=7504))
        await world.sweep()
        assert not [record for record in caplog.records if "at_risk" in record.message]
        assert not (await world.failing()).at_risk

        await world.advance(MINUTE)
        await world.drain()
        [record] = [record for record in caplog.records if "at_risk" in record.message]
        assert record.levelname == "ERROR"
        assert "subcode=7504" in record.message
        assert (await world.failing()).at_risk


class TestChain:
    async def test_retries_after_1_2_4_8_and_8_minutes_until_it_succeeds(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["call"] = unavailable(times=7)
        began = world.clock.now()
        await world.sweep()

        tried: list[float] = []
        for _ in range(23):
            before = world.graph.requests["keepAlive"]
            await world.advance(MINUTE)
            await world.drain()
            if world.graph.requests["keepAlive"] > before:
                tried.append((world.clock.now() - began) / MINUTE)
        # 1, 1 + 2, 3 + 4, 7 + 8, 15 + 8. In between, at 20, the watchdog, which leaves the chain alone.
        assert tried == [1, 3, 7, 15, 20, 23]
        assert (await world.read()).failing is not None

        await world.advance(6 * MINUTE)  # 45 - 10 - 23 = 12 minutes are left of the lease: half of them, not 8
        await world.drain()
        call = await world.read()
        assert call.failing is None
        assert call.renewed_at == world.clock.now()
        kinds = [event.kind for event in await world.store.list_events("call")]
        assert kinds[-2:] == ["keepAliveFailing", "keepAliveRecovered"]

    async def test_is_one_however_many_sweeps_fail(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["call"] = unavailable()
        for _ in range(3):
            await world.sweep()
        assert len(world.retries()) == 1

    async def test_is_taken_up_by_the_next_sweep_if_its_message_is_lost(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["call"] = unavailable()
        world.queue.broken = True
        await world.sweep()
        world.queue.broken = False
        assert not world.queue.messages
        await world.advance(TICK)
        await world.sweep()
        assert len(world.retries()) == 1

    async def test_goes_on_if_a_clock_that_is_behind_takes_its_message(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["call"] = unavailable()
        await world.sweep()
        behind = world.start_process(clock=VirtualClock(world.clock.now() - 3 * MINUTE))
        [message] = world.retries()
        await behind.renewer.retry(message)
        failing = (await world.read()).failing
        assert failing is not None
        assert failing.retry_at in [retry.retry_at for retry in world.retries()[1:]]


class TestLeftover:
    async def test_after_a_success_does_nothing(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["call"] = unavailable(times=1)
        await world.sweep()
        await world.sweep()  # succeeds
        asked = world.graph.requests["keepAlive"]
        await world.advance(MINUTE)
        await world.drain()
        assert world.graph.requests["keepAlive"] == asked

    async def test_that_is_not_the_retry_of_the_row_does_nothing(self, world: World) -> None:
        await world.add_call()
        world.graph.faults["call"] = unavailable()
        await world.sweep()
        asked, waiting = world.graph.requests["keepAlive"], len(world.queue.messages)
        await world.run(world.keeper.handle(Renew(call_id="call", retry_at=world.clock.now() - MINUTE)))
        assert (world.graph.requests["keepAlive"], len(world.queue.messages)) == (asked, waiting)


class TestEarly404:
    async def test_counts_once_the_call_is_old_enough(self, world: World) -> None:
        assert Timing().not_found_grace == 6 * MINUTE
        await world.add_call(age=4.5 * MINUTE)
        del world.graph.calls["call"]
        await world.sweep()
        failing = (await world.read()).failing
        assert failing is not None
        assert failing.retry_at >= world.clock.now() + 1.5 * MINUTE  # 6 - 4.5: as soon as it counts

        await world.advance(MINUTE)
        await world.drain()
        assert (await world.read()).status is Status.ACTIVE
        await world.advance(2 * MINUTE)
        await world.drain()
        assert (await world.read()).status is Status.ENDED

    async def test_is_asked_again_as_soon_as_it_counts_however_often_it_came(self, world: World) -> None:
        await world.add_call(age=0 * MINUTE)
        world.graph.calls["call"].ended = True
        for _ in range(5):
            await world.sweep()
            await world.advance(MINUTE)
        world.queue.messages.clear()
        failing = (await world.read()).failing
        assert failing
        behind = Renew(call_id="call", retry_at=failing.retry_at)  # taken by a clock that is behind: too early again
        await world.run(world.keeper.handle(behind))
        await world.advance(2 * MINUTE)  # 5 + 2 > 6
        await world.drain()
        assert (await world.read()).status is Status.ENDED


class TestLookUp:
    async def test_ends_a_call_that_graph_does_not_know_after_45_minutes_without_success(self, world: World) -> None:
        await world.add_call(age=10 * MINUTE)
        world.graph.faults["keepAlive"] = unavailable()
        await world.sweep()
        await world.live(30, timer=False)  # 10 + 30 minutes: the lease still holds
        assert world.graph.requests["get"] == 0
        await world.live(16, timer=False)
        call = await world.read()
        assert call.status is Status.ENDED
        assert call.termination is not None
        assert call.termination.source is TerminationSource.LOOKUP_NOT_FOUND

    async def test_takes_over_the_reason_of_the_end(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def get(_call_id: str, _tenant_id: str, _app_id: str | None) -> GraphCall:
            return GraphCall("terminated", ResultInfo(408, 8537, message="Keep alive timeout"))

        await world.add_call(age=50 * MINUTE)
        world.graph.faults["keepAlive"] = unavailable()
        monkeypatch.setattr(world.graph, "get", get)
        await world.sweep()
        end = (await world.read()).termination
        assert end is not None
        assert (end.code, end.subcode, end.category) == (408, 8537, "keepAlive")

    async def test_keeps_a_call_that_graph_still_knows(self, world: World) -> None:
        await world.add_call(age=50 * MINUTE)
        world.graph.calls["call"].expires_at = world.clock.now() + 10 * MINUTE
        world.graph.faults["keepAlive"] = unavailable(times=1)
        await world.sweep()
        assert world.graph.requests["get"] == 1
        assert (await world.read()).status is Status.ACTIVE


class TestLateWrite:
    async def test_of_a_sweep_does_not_undo_what_a_retry_wrote(self, world: World) -> None:
        await world.add_call(age=20 * MINUTE)
        world.graph.faults["call"] = unavailable()
        await world.sweep()
        before = (await world.read()).lease
        await world.advance(MINUTE)
        await world.drain()
        written = (await world.read()).failing
        assert written is not None

        assert before.failing is not None
        ahead = replace(before, failing=replace(before.failing, retry_at=world.clock.now() + MINUTE))  # another's clock
        await world.run(world.process.renewer.renew_in_sweep(ahead, None))
        now_written = (await world.read()).failing
        assert now_written is not None
        assert now_written.retry_at == written.retry_at
        assert written.retry_at in {message.retry_at for message in world.retries()}

    async def test_of_a_renewal_does_not_undo_a_later_failure(self, world: World) -> None:
        await world.add_call()

        async def pause(_operation: str, _call_id: str) -> None:
            """Graph renews. Before its answer is read, another process sweeps and fails."""
            other = world.start_process()
            world.clock.set(world.clock.now() + 20 * MINUTE)
            world.graph.faults["call"] = unavailable()
            await other.keeper.sweep("timer")
            del world.graph.faults["call"]

        asked_at = world.clock.now()
        world.graph.faults["call"] = pause
        await world.run(world.keeper.handle(Renew(call_id="call")))
        call = await world.read()
        assert call.failing
        assert call.renewed_at == asked_at
        assert call.lease.last_renewal(await world.watermark(), Timing()) == asked_at

    async def test_of_a_renewal_does_not_take_a_new_failure_for_the_one_it_clears(self, world: World) -> None:
        """Both are a first attempt: they differ in when they began."""
        await world.add_call()
        world.graph.faults["call"] = unavailable(times=1)
        await world.sweep("timer")

        async def pause(_operation: str, _call_id: str) -> None:
            """Another process clears the failure, and fails itself 20 minutes later."""
            del world.graph.faults["call"]
            other = world.start_process()
            await other.keeper.sweep("timer")
            assert (await world.read()).failing is None
            world.clock.set(world.clock.now() + 20 * MINUTE)
            world.graph.faults["call"] = unavailable(times=1)
            await other.keeper.sweep("timer")

        world.graph.faults["call"] = pause
        await world.run(world.keeper.handle(Renew(call_id="call")))
        failing = (await world.read()).failing
        assert failing
        assert failing.attempts == 1


class TestPutBack:
    @pytest.mark.parametrize(
        "message",
        [pytest.param(SweepShard(shard=0), id="sweepShard"), pytest.param(Renew(call_id="call-0"), id="renew")],
    )
    async def test_message_that_meets_a_store_outage_is_not_poisoned(self, message: SweepShard | Renew) -> None:
        store = BrokenStore()
        world = World(store=store)
        await world.add_call("call-0")
        store.break_all()
        await world.keeper.handle(message)
        assert (MINUTE, message.model_copy(update={"put_back": 1})) in world.queue.waiting()
        await world.keeper.handle(message.model_copy(update={"put_back": MAX_PUT_BACKS}))
        assert len(world.queue.messages) == 1
        world.queue.broken = True
        with pytest.raises(StoreUnavailable):
            await world.keeper.handle(message)
