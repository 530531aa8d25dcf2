"""The wake-ups: timer, queue, and a sweep on demand."""

import json
from datetime import timedelta
from typing import Any

import pytest
from azure_functions_runtime.bindings.datumdef import Datum

from shared.domain.leases import Watermark
from shared.storage.row_codec import to_row
from shared.storage.rows import WATERMARK_ROW
from shared.storage.store import SHARDS
from shared.storage.table import Put
from shared.storage.wakeup_queue import Sweep, SweepShard
from tests.functions.harness import App, ago
from tests.functions.test_hangup import WatchedQueue, WithWatchedQueue, queue  # noqa: F401 (a fixture)

TICK = json.dumps({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False})


async def old_call(app: App, swept_ago: float = 4) -> str:
    """A call that a sweep renews, though its registration did not; the last sweep was so many minutes ago."""
    then = app.clock.now() - timedelta(minutes=swept_ago)
    for shard in range(SHARDS):
        put = Put(WATERMARK_ROW, to_row(Watermark(then, then)))  # the store itself does not let an earlier one stand
        await app.parts.store._table.write(shard, [put])
    call_id = await app.simulator.call(app.tenant, ageSeconds=600)
    return await app.register(call_id, startedAt=ago(minutes=10))


async def test_a_sweep_on_demand_renews_all_and_tells_what_it_did(app: App) -> None:
    call_id = await old_call(app)
    tally: Any = await app.asked("POST", "keep-alive")
    assert await app.simulator.keep_alives(call_id) == 1
    assert tally["renewed"] >= 1
    assert set(tally) == {"renewed", "ended", "failing", "handedOver", "purged"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "openapi.json", 200),
        ("GET", "calls/unknown", 404),
        ("GET", "calls?nonsense=1", 400),
        ("POST", "notifications", 401),
    ],
)
async def test_whatever_is_asked_that_sweeps_are_late_is_noticed(
    app: App,
    queue: WatchedQueue,  # noqa: F811
    method: str,
    path: str,
    status: int,
) -> None:
    await old_call(app, swept_ago=25)
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
    for shard in range(16):
        assert await app.handle(SweepShard(shard=shard).model_dump_json()) is None
    assert await app.simulator.keep_alives(call_id) == 1


async def test_the_dead_mans_switch_sweeps_what_is_stale_and_nothing_else(app: App) -> None:
    fresh = await old_call(app, swept_ago=19)
    switch = Sweep(due=app.clock.now() + timedelta(days=1)).model_dump_json()  # after any that other tests have left
    assert await app.handle(switch) is None
    assert await app.simulator.keep_alives(fresh) == 0
    stale = await old_call(app, swept_ago=21)
    assert await app.handle(switch) is None
    assert await app.simulator.keep_alives(stale) == 1


async def test_a_message_that_is_none_of_ours_fails_and_goes_to_the_poison_queue(app: App) -> None:
    error = await app.handle("no message")
    assert error is not None
    assert "InvalidRequest" in error
