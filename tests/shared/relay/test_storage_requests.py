"""The requests to storage that a notification costs: with a healthy bot the relay adds one transaction."""

import json
from collections import Counter
from datetime import timedelta

import pytest

from shared.api.webhook import SenderAllowList, Webhook
from shared.auth.tokens import Claims, TokenVerifier
from shared.config.apps import Apps, BotApp
from shared.relay.outbox import OutboxPlanner
from shared.relay.passthrough import PassThrough
from shared.storage.store import CallStore
from tests.support.relay import APP_ID, CALL, Relay
from tests.support.stores import NOW, TENANT

BUDGET = timedelta(seconds=1.5)


class Verifier(TokenVerifier):
    """Accepts each token, which has five minutes left."""

    def __init__(self) -> None:
        """Need no keys."""

    async def verify(self, authorization: str | None) -> Claims:  # noqa: ARG002 - any will do
        return Claims(TENANT, APP_ID, None, None, frozenset(), "legacy", NOW + timedelta(minutes=5))


def webhook(relay: Relay, *, is_on: bool) -> Webhook:
    apps = Apps((BotApp(appId=APP_ID, credential="managedIdentity"),))
    planner = OutboxPlanner(relay.targets, apps, relay.destinations, relay.queue, relay.clock)
    store = CallStore(relay.table, planner if is_on else None)
    return Webhook(
        store,
        Verifier(),
        relay.queue,  # type: ignore[arg-type] # no message of keepAlive is sent here
        relay.clock,
        SenderAllowList(),
        apps=apps,
        relay=PassThrough(relay.deliverer, relay.targets, store, BUDGET, BUDGET) if is_on else None,
    )


def body(kind: str) -> bytes:
    path = f"/communications/calls/{CALL}" + ("/participants" if kind == "roster" else "")
    data = [{"id": "1"}] if kind == "roster" else {"@odata.type": "#microsoft.graph.call", "state": kind}
    return json.dumps({"value": [{"changeType": "updated", "resourceUrl": path, "resourceData": data}]}).encode()


@pytest.mark.parametrize(
    ("kind", "without", "with_relay"),
    [
        # The relay adds the write that deletes what was delivered. The delivery is part of the call's own transaction.
        pytest.param("established", {"read": 1, "write": 1}, {"read": 1, "write": 1 + 1}, id="changes the call"),
        # Without the relay nothing is written, so the relay adds the transaction that stores the delivery too.
        pytest.param("establishing", {"read": 1 + 1}, {"read": 1 + 1, "write": 1 + 1}, id="repeated"),
        pytest.param("roster", {"read": 1}, {"read": 1, "write": 1 + 1}, id="roster"),
    ],
)
async def test_a_healthy_delivery_adds_one_write_to_that_of_the_notification(
    kind: str, without: dict[str, int], with_relay: dict[str, int]
) -> None:
    for is_on, expected in ((False, without), (True, with_relay)):
        relay = Relay()
        receiving = webhook(relay, is_on=is_on)
        await receiving.receive("Bearer x", body("establishing"))
        before = Counter(relay.table.requests)
        heard = len(relay.bot.received)

        await receiving.receive("Bearer x", body(kind))

        assert relay.table.requests - before == expected
        assert len(relay.bot.received) - heard == is_on
        assert relay.messages.sent == []


async def test_the_states_of_destinations_are_read_once_in_half_a_minute() -> None:
    relay = Relay()
    receiving = webhook(relay, is_on=True)
    for _ in range(10):
        await receiving.receive("Bearer x", body("roster"))
    assert relay.table.requests["query"] == 1

    await relay.clock.sleep(31)
    await receiving.receive("Bearer x", body("roster"))
    assert relay.table.requests["query"] == 2
