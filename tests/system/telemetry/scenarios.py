"""Scenarios of health and of faults, one after the other, in virtual time. The real exporter sends the app's telemetry.

`python -m tests.system.telemetry.scenarios` runs in a process of its own, because the exporter can be configured
only once in a process. The app settings of a deployment say where it sends. Each scenario has ten days of virtual time,
so the time of a line says to which scenario it belongs.
"""

import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from azure_functions_runtime.otel import initialize_azure_monitor
from opentelemetry import _logs

from shared.errors import GraphForbidden, GraphUnavailable
from shared.storage.store import shard_of
from soak.loop import run
from tests.support.virtual import START, refuse
from tests.system.telemetry.virtual_app import MINUTE, TENANT, VirtualApp

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SLOT = 10 * DAY
OTHER = "c4d8a1e2-6f3b-4b7a-8d90-5e1f2a3b4c5d"
FAULT_AT = HOUR  # after the start of the scenario
BOT_IS_DOWN = HOUR / 2


async def health(app: VirtualApp) -> None:
    """Three hours of a healthy app: calls that end, refused requests, and faults that pass without help."""
    calls = [str(uuid.uuid4()) for _ in range(6)]
    for call_id in calls:
        await app.register(call_id)
    await app.until(HOUR)
    assert await app.end(calls[0], 200, 5010) == 202
    assert await app.end(calls[1], 486, 10003) == 202
    assert await app.end(calls[2], 200, 5010, token="") == 401
    app.graph.faults[calls[2]] = refuse(GraphUnavailable("Graph answers 503 (scenarios).", status=503), times=2)
    app.store.shard_away = shard_of(calls[3])
    await app.until(HOUR + MINUTE)  # one sweep fails at one shard
    app.store.shard_away = None
    app.bot.status = 500
    assert await app.notify(calls[4], state="established") == 202
    app.bot.status = 202  # the bot takes the second attempt
    await app.until(3 * HOUR)
    assert not app.graph.lapsed() - {calls[0], calls[1]}


async def forbidden(app: VirtualApp) -> None:
    """Consent is withdrawn in one tenant: its call is at risk, then its lease lapses."""
    call_id = str(uuid.uuid4())
    await app.register(call_id)
    await app.register(str(uuid.uuid4()), OTHER)
    await app.until(FAULT_AT)
    app.graph.faults[TENANT] = refuse(GraphForbidden("Graph answers 403 (scenarios).", status=403, subcode=7504))
    await app.until(FAULT_AT + 45 * MINUTE)
    assert app.graph.lapsed() == {call_id}
    assert await app.end(call_id, 408, 8537) == 202
    await app.until(3 * HOUR)


async def shard(app: VirtualApp) -> None:
    """One of sixteen shards cannot be read."""
    await app.register(call_id := str(uuid.uuid4()))
    await app.until(FAULT_AT)
    app.store.shard_away = shard_of(call_id)
    await app.until(2 * HOUR)


async def other_tenant(app: VirtualApp) -> None:
    """A notification with one tenant's token is about a call of another tenant."""
    await app.register(call_id := str(uuid.uuid4()))
    await app.until(FAULT_AT)
    assert await app.end(call_id, 200, 5010, token=OTHER) == 403
    await app.until(2 * HOUR)


async def damaged(app: VirtualApp) -> None:
    """One call's row cannot be read at all, and of another's only the tenant."""
    calls = [str(uuid.uuid4()) for _ in range(3)]
    for call_id in calls:
        await app.register(call_id)
    await app.until(FAULT_AT)
    app.store.damaged = {calls[0]: {}, calls[1]: {"tenantId": TENANT}}
    await app.until(2 * HOUR)
    assert app.graph.lapsed() == {calls[0]}


async def webhook(app: VirtualApp) -> None:
    """Table Storage refuses all writes, so the webhook answers 503."""
    await app.register(call_id := str(uuid.uuid4()))
    await app.until(FAULT_AT)
    app.store.is_away = True
    for _ in range(3):
        assert await app.end(call_id, 200, 5010) == 503
    app.store.is_away = False
    await app.until(2 * HOUR)


async def poison(app: VirtualApp) -> None:
    """A message that is no JSON fails five times."""
    await app.until(FAULT_AT)
    for attempt in range(1, 6):
        await app.handle("no message of ours", attempt)
        await app.clock.advance(MINUTE / 2)
    await app.until(2 * HOUR)


async def four_tries(app: VirtualApp) -> None:
    """A message fails four times, but not a fifth time."""
    await app.until(FAULT_AT)
    for attempt in range(1, 5):
        await app.handle("no message of ours", attempt)
        await app.clock.advance(MINUTE / 2)
    await app.until(2 * HOUR)


async def relay_down(app: VirtualApp) -> None:
    """A bot does not answer for half an hour, so its breaker opens."""
    await app.register(call_id := str(uuid.uuid4()))
    await app.until(FAULT_AT)
    app.bot.error = "timeout"
    assert await app.notify(call_id, state="established") == 202
    await app.until(FAULT_AT + BOT_IS_DOWN)
    app.bot.error = None
    await app.until(3 * HOUR)


async def relay_disabled(app: VirtualApp) -> None:
    """A bot answers 410 and is switched off. Ten hours later an operator enables it."""
    await app.register(call_id := str(uuid.uuid4()))
    await app.until(FAULT_AT)
    app.bot.status = 410
    assert await app.notify(call_id, state="established") == 202
    app.bot.status = 202
    await app.until(FAULT_AT + 10 * HOUR)
    await app.clock.run(app.parts.destinations.enable("bot"))
    await app.until(12 * HOUR)


async def relay_off(app: VirtualApp) -> None:
    """The app is deployed with wrong settings of the relay, and an hour later with right ones."""
    await app.until(FAULT_AT)
    app.configure(RELAY_TARGETS="hush-hush")
    await app.until(FAULT_AT + HOUR)
    app.configure()
    await app.until(4 * HOUR)


async def relay_dead(app: VirtualApp) -> None:
    """A bot answers 404 to each attempt, so its delivery is dead."""
    await app.register(call_id := str(uuid.uuid4()))
    await app.until(FAULT_AT)
    app.bot.status = 404
    assert await app.notify(call_id, state="established") == 202
    await app.until(2 * HOUR)


async def relay_backlog(app: VirtualApp) -> None:
    """A bot asks for ten minutes of patience."""
    await app.register(call_id := str(uuid.uuid4()))
    await app.until(FAULT_AT)
    app.bot.status, app.bot.headers = 503, {"Retry-After": "600"}
    assert await app.notify(call_id, state="established") == 202
    app.bot.status = 202
    await app.until(2 * HOUR)


async def timer(app: VirtualApp) -> None:
    """The timer stops. The watchdog starts the sweeps."""
    await app.register(str(uuid.uuid4()))
    await app.until(FAULT_AT)
    app.timer_runs = False
    await app.until(4 * HOUR)
    assert not app.graph.lapsed()


async def silence(app: VirtualApp) -> None:
    """The app is gone: no timer, no queue, and no further line."""
    await app.register(str(uuid.uuid4()))
    await app.until(FAULT_AT)


SCENARIOS: dict[str, Callable[[VirtualApp], Awaitable[None]]] = {
    scenario.__name__: scenario
    for scenario in (
        *(health, forbidden, shard, other_tenant, damaged, webhook, poison, four_tries, timer, silence),
        *(relay_down, relay_disabled, relay_off, relay_dead, relay_backlog),
    )
}


def start_of(scenario: str) -> datetime:
    """Return the start of a scenario. The next starts ten days later."""
    return START + list(SCENARIOS).index(scenario) * SLOT


async def main() -> None:
    """Run all scenarios, and send their telemetry before returning."""
    logging.getLogger().setLevel(logging.INFO)  # the worker does this and the next line
    initialize_azure_monitor()
    make = logging.getLogRecordFactory()
    for name, scenario in SCENARIOS.items():
        app = VirtualApp(start_of(name))

        def at_virtual_time(*args: object, app: VirtualApp = app, **kwargs: object) -> logging.LogRecord:
            record = make(*args, **kwargs)
            record.created = app.clock.now().timestamp()
            return record

        logging.setLogRecordFactory(at_virtual_time)
        await scenario(app)
    _logs.get_logger_provider().shutdown()  # type: ignore[attr-defined] # of the SDK's provider


if __name__ == "__main__":
    run(main())
