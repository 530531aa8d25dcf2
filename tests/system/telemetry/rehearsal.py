"""Health and faults, one scenario after the other, in virtual time. The real exporter sends what the app tells of them.

`python -m tests.system.telemetry.rehearsal` runs in a process of its own, because the exporter can be configured once
in a process. The app settings of a deployment say where it sends. Each scenario has ten days of virtual time, so the
time of a line says to which scenario it belongs.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from azure_functions_runtime.otel import initialize_azure_monitor
from opentelemetry import _logs

from shared.errors import GraphForbidden, GraphUnavailable
from shared.storage.store import shard_of
from tests.support.virtual import START
from tests.system.telemetry.life import MINUTE, TENANT, Life

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SLOT = 10 * DAY
OTHER = "c4d8a1e2-6f3b-4b7a-8d90-5e1f2a3b4c5d"
FAULT_AT = HOUR  # every fault begins an hour after its scenario


async def health(life: Life) -> None:
    """Three hours in which all that may happen to a healthy app happens: ends, refusals, what passes by itself."""
    calls = [str(uuid.uuid4()) for _ in range(6)]
    for call_id in calls:
        await life.register(call_id)
    await life.until(HOUR)
    assert await life.end(calls[0], 200, 5010) == 202
    assert await life.end(calls[1], 486, 10003) == 202
    assert await life.end(calls[2], 200, 5010, token="") == 401
    life.graph.faults[calls[2]] = failing(GraphUnavailable("Graph answers 503 (rehearsal).", status=503), times=2)
    life.store.shard_away = shard_of(calls[3])
    await life.until(HOUR + MINUTE)  # one sweep fails at one shard
    life.store.shard_away = None
    await life.until(3 * HOUR)
    assert not life.graph.lapsed() - {calls[0], calls[1]}


async def forbidden(life: Life) -> None:
    """Consent is withdrawn in one tenant: its call is at risk, then its lease lapses."""
    call_id = str(uuid.uuid4())
    await life.register(call_id)
    await life.register(str(uuid.uuid4()), OTHER)
    await life.until(FAULT_AT)
    life.graph.faults[TENANT] = failing(GraphForbidden("Graph answers 403 (rehearsal).", status=403, subcode=7504))
    await life.until(FAULT_AT + 45 * MINUTE)
    assert life.graph.lapsed() == {call_id}
    assert await life.end(call_id, 408, 8537) == 202
    await life.until(3 * HOUR)


async def shard(life: Life) -> None:
    """One of sixteen shards cannot be read."""
    await life.register(call_id := str(uuid.uuid4()))
    await life.until(FAULT_AT)
    life.store.shard_away = shard_of(call_id)
    await life.until(2 * HOUR)


async def other_tenant(life: Life) -> None:
    """A tenant's token tells of a call of another tenant."""
    await life.register(call_id := str(uuid.uuid4()))
    await life.until(FAULT_AT)
    assert await life.end(call_id, 200, 5010, token=OTHER) == 403
    await life.until(2 * HOUR)


async def damaged(life: Life) -> None:
    """Of the row of one call nothing can be read, of another's only the tenant."""
    calls = [str(uuid.uuid4()) for _ in range(3)]
    for call_id in calls:
        await life.register(call_id)
    await life.until(FAULT_AT)
    life.store.damaged = {calls[0]: {}, calls[1]: {"tenantId": TENANT}}
    await life.until(2 * HOUR)
    assert life.graph.lapsed() == {calls[0]}


async def webhook(life: Life) -> None:
    """Table Storage takes no changes, so the webhook answers 503."""
    await life.register(call_id := str(uuid.uuid4()))
    await life.until(FAULT_AT)
    life.store.is_away = True
    for _ in range(3):
        assert await life.end(call_id, 200, 5010) == 503
    life.store.is_away = False
    await life.until(2 * HOUR)


async def poison(life: Life) -> None:
    """A message that nobody can read fails five times."""
    await life.until(FAULT_AT)
    for attempt in range(1, 6):
        await life.take("no message of ours", attempt)
        await life.clock.advance(MINUTE / 2)
    await life.until(2 * HOUR)


async def four_tries(life: Life) -> None:
    """A message fails four times, and is done the fifth time."""
    await life.until(FAULT_AT)
    for attempt in range(1, 5):
        await life.take("no message of ours", attempt)
        await life.clock.advance(MINUTE / 2)
    await life.until(2 * HOUR)


async def timer(life: Life) -> None:
    """The timer stands still. The dead man's switch sweeps."""
    await life.register(str(uuid.uuid4()))
    await life.until(FAULT_AT)
    life.timer_runs = False
    await life.until(4 * HOUR)
    assert not life.graph.lapsed()


async def silence(life: Life) -> None:
    """The app is gone: neither timer nor queue, and no line more."""
    await life.register(str(uuid.uuid4()))
    await life.until(FAULT_AT)


SCENARIOS: dict[str, Callable[[Life], Awaitable[None]]] = {
    scenario.__name__: scenario
    for scenario in (health, forbidden, shard, other_tenant, damaged, webhook, poison, four_tries, timer, silence)
}


def start_of(scenario: str) -> datetime:
    """When a scenario begins; the next begins ten days later."""
    return START + list(SCENARIOS).index(scenario) * SLOT


def failing(error: Exception, times: int | None = None) -> Callable[[str, str], Awaitable[None]]:
    """A fault of the virtual Graph, so often; None: for good."""
    left = times

    async def fault(_operation: str, _call_id: str) -> None:
        nonlocal left
        if left is None or left > 0:
            left = None if left is None else left - 1
            raise error

    return fault


async def main() -> None:
    """Run all scenarios; what they tell has been sent at the end."""
    logging.getLogger().setLevel(logging.INFO)  # the worker does these two
    initialize_azure_monitor()
    make = logging.getLogRecordFactory()
    for name, scenario in SCENARIOS.items():
        life = Life(start_of(name))

        def at_virtual_time(*args: object, life: Life = life, **kwargs: object) -> logging.LogRecord:
            record = make(*args, **kwargs)
            record.created = life.clock.now().timestamp()
            return record

        logging.setLogRecordFactory(at_virtual_time)
        await scenario(life)
    _logs.get_logger_provider().shutdown()  # type: ignore[attr-defined] # of the SDK's provider


if __name__ == "__main__":
    asyncio.run(main())
