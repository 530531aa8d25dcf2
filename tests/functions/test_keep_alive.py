"""The triggers of sweeps: the timer, the queue, and the route of an operator."""

import json
from datetime import timedelta
from typing import Any

import pytest
from azure_functions_runtime.bindings.datumdef import Datum

from shared.domain.leases import Timing, Watermark
from shared.storage.row_codec import to_row
from shared.storage.rows import WATERMARK_ROW
from shared.storage.store import SHARDS
from shared.storage.table import Put
from shared.storage.wakeup_queue import Sweep, SweepShard
from tests.functions.harness import App, ago
from tests.functions.test_hangup import WatchedQueue, WithWatchedQueue, queue  # noqa: F401 (a fixture)

STALE_AFTER = Timing().sweep_stale_after / timedelta(minutes=1)
TICK = json.dumps({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False})


async def old_call(app: App, swept_ago: float = 4) -> str:
    """A call that a sweep renews, but its registration did not. The last sweep was `swept_ago` minutes ago."""
    then = app.clock.now() - timedelta(minutes=swept_ago)
    for shard in range(SHARDS):
        put = Put(WATERMARK_ROW, to_row(Watermark(then, then)))  # the store itself would not accept an earlier one
        await app.parts.store._table.write(shard, [put])
    call_id = await app.simulator.call(app.tenant, ageSeconds=600)
    return await app.register(call_id, startedAt=ago(minutes=10))


async def test_a_sweep_on_demand_renews_all_calls_and_returns_its_numbers(app: App) -> None:
    call_id = await old_call(app)
    stats: Any = await app.asked("POST", "keep-alive")
    assert await app.simulator.keep_alives(call_id) == 1
    assert stats["renewed"] >= 1
    assert set(stats) == {"renewed", "ended", "failing", "handedOver", "purged"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "openapi.json", 200, id="open route"),
        pytest.param("GET", "calls/unknown", 404, id="absent call"),
        pytest.param("GET", "calls?nonsense=1", 400, id="invalid query"),
        pytest.param("POST", "notifications", 401, id="notification without token"),
    ],
)
async def test_a_request_with_any_outcome_notices_a_late_sweep(
    app: App,
    queue: WatchedQueue,  # noqa: F811
    method: str,
    path: str,
    status: int,
) -> None:
    await old_call(app, swept_ago=STALE_AFTER + 5)
    async with app.configured(WithWatchedQueue) as watched:
        await watched.ask(method, path, expect=status)
    assert queue.sent == [(Sweep(wake_up="request"), 0)]


async def test_the_timer_sweeps(app: App) -> None:
    call_id = await old_call(app)
    assert await app.invoke("keep_alive_timer", Datum(TICK, "json")) is None
    assert await app.simulator.keep_alives(call_id) == 1


async def test_a_timer_that_fires_twice_sweeps_once(app: App) -> None:
    call_id = await old_call(app)
    for _ in range(2):
        assert await app.invoke("keep_alive_timer", Datum(TICK, "json")) is None
    assert await app.simulator.keep_alives(call_id) == 1


async def test_a_message_sweeps_a_shard(app: App) -> None:
    call_id = await old_call(app)
    for shard in range(SHARDS):
        assert await app.handle(SweepShard(shard=shard).model_dump_json()) is None
    assert await app.simulator.keep_alives(call_id) == 1


async def test_the_watchdog_sweeps_only_stale_shards(app: App) -> None:
    fresh = await old_call(app, swept_ago=STALE_AFTER - 1)
    watchdog = Sweep(
        due=app.clock.now() + timedelta(days=1)
    ).model_dump_json()  # later than any that other tests have left
    assert await app.handle(watchdog) is None
    assert await app.simulator.keep_alives(fresh) == 0
    stale = await old_call(app, swept_ago=STALE_AFTER + 1)
    assert await app.handle(watchdog) is None
    assert await app.simulator.keep_alives(stale) == 1


async def test_a_message_that_is_none_of_ours_fails_and_goes_to_the_poison_queue(app: App) -> None:
    error = await app.handle("no message")
    assert error is not None
    assert "InvalidRequest" in error
