"""The routes of the relay: lists of deliveries, replays, and the enabling of a target."""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import JsonValue

from functions.routing import Role
from shared.domain.deliveries import Delivery, DeliveryStatus
from shared.services import Services
from shared.storage.relay_queue import Look, parse_relay_message
from tests.functions import test_relay
from tests.functions.harness import (
    APP_ID,
    KEY,
    App,
    Json,
    about_call,
    about_operation,
    ago,
    asking_for_tokens,
    bearer,
)
from tests.functions.test_relay import Bot

bot = test_relay.bot  # the fixture
BOUND, OPERATOR = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "ab")
PROBLEM = "urn:call-keeper:problem:"
SECRET_STATE = "a-state-that-only-the-body-has"


@dataclass(frozen=True)
class Relay:
    """The app with one target, whose name no other test has: the state of a destination is in the table of all."""

    app: App
    bot: Bot
    name: str

    @property
    def settings(self) -> dict[str, str]:
        target = {"name": self.name, "url": self.bot.url, "format": "graph"}
        return {"RELAY_TARGETS": json.dumps([target])}

    def on(self, app: App) -> "Relay":
        return replace(self, app=app)

    async def notify(self, call_id: str, *states: str) -> None:
        for state in states:
            await self.app.notify(about_call(call_id, state=state))

    async def listed(self, call_id: str, headers: Mapping[str, str] = KEY) -> list[Any]:
        page: Any = await self.app.asked("GET", f"calls/{call_id}/deliveries", headers=headers)
        assert page["continuation"] is None
        return list(page["value"])

    async def statuses(self, call_id: str) -> list[str]:
        return [str(each["status"]) for each in await self.listed(call_id)]

    async def replay(
        self, delivery_id: JsonValue, expect: int = 202, headers: Mapping[str, str] = KEY, **body: JsonValue
    ) -> Json:
        return await self.app.asked("POST", f"deliveries/{delivery_id}/replay", body, expect=expect, headers=headers)

    async def enable(self, expect: int = 202, headers: Mapping[str, str] = KEY) -> Json:
        return await self.app.asked("POST", f"relay/targets/{self.name}/enable", expect=expect, headers=headers)

    async def replay_span(
        self,
        first: datetime,
        last: datetime,
        expect: int = 202,
        headers: Mapping[str, str] = KEY,
        **more: JsonValue,
    ) -> Json:
        body: Json = {"target": self.name, "from": first.isoformat(), "to": last.isoformat(), **more}
        return await self.app.asked("POST", "deliveries/replay", body, expect=expect, headers=headers)

    async def run_queue(self) -> list[Look]:
        """Handle all that is visible on the queue now. Return the looks at this target among it."""
        await self.app.parts.relay_queue.send(Look(target="none"))  # so that there is a queue
        client: Any = self.app.parts.relay_queue._queue._client  # type: ignore[attr-defined] # StorageQueue
        looks: list[Look] = []
        async for message in client.receive_messages(visibility_timeout=60):
            parsed = parse_relay_message(b64decode(message.content).decode())
            await self.app.parts.deliverer.handle(parsed)
            await client.delete_message(message)
            looks += [parsed] if isinstance(parsed, Look) and parsed.target == self.name else []
        return looks

    async def kill(self, call_id: str, status: DeliveryStatus = DeliveryStatus.DEAD, **changes: Any) -> list[Delivery]:  # noqa: ANN401 (fields of a delivery)
        """Give up all pending deliveries of a call, as after 24 hours."""
        outbox = self.app.parts.outbox
        killed: list[Delivery] = []
        for each in await outbox.list_of_call(call_id):
            stored = await outbox.get(each.call_id, each.sequence)
            assert stored is not None
            if each.status is DeliveryStatus.PENDING:
                saved, _ = await outbox.save(stored, replace(stored.value, status=status, **changes))
                killed.append(saved.value)
        if killed:
            lane = await outbox.get_lane(killed[0].lane)
            assert lane is not None
            await outbox.delete_lane(lane)
        return killed


@pytest.fixture
async def relay(app: App, bot: Bot) -> Any:  # noqa: ANN401 (an async generator of Relay)
    """The app with the relay to a bot that accepts everything, until a test tells it otherwise."""
    found = Relay(app, bot, f"bot-{uuid4().hex[:8]}")
    async with app.configured(Services, **found.settings) as relaying:
        yield found.on(relaying)


async def failed_call(relay: Relay, *states: str, status: int = 500) -> str:
    """A call whose first notification the bot did not accept, so that the others wait behind it."""
    call_id = await relay.app.register()
    relay.bot.statuses = [status]
    await relay.notify(call_id, *(states or ("established",)))
    return call_id


async def dead_call(relay: Relay, *states: str) -> tuple[str, list[Delivery]]:
    call_id = await failed_call(relay, *states)
    return call_id, await relay.kill(call_id)


def problem_of(found: Json) -> str:
    return str(found["type"]).removeprefix(PROBLEM)


async def test_the_deliveries_of_a_call_are_listed_with_their_attempts_and_without_bodies(relay: Relay) -> None:
    call_id = await relay.app.register()
    await relay.notify(call_id, "establishing")
    relay.bot.statuses = [500]
    await relay.notify(call_id, SECRET_STATE, "terminating")
    delivered, failed, waiting = await relay.listed(call_id)
    assert delivered == {
        "id": delivered["id"],
        "callId": call_id,
        "callIds": None,
        "target": relay.name,
        "to": None,
        "type": "notification",
        "status": "delivered",
        "attempts": delivered["attempts"],
        "receivedAt": delivered["receivedAt"],
        "deliveredAt": delivered["deliveredAt"],
        "nextAttemptAt": None,
    }
    (attempt,) = delivered["attempts"]
    assert (attempt["status"], attempt["error"]) == (202, None)
    assert isinstance(attempt["latencyMs"], int)
    assert delivered["deliveredAt"] is not None
    assert [each["status"] for each in (failed, waiting)] == ["pending", "pending"]
    assert failed["nextAttemptAt"] is not None
    assert (waiting["nextAttemptAt"], waiting["attempts"]) == (None, [])


async def test_the_time_of_the_next_attempt_is_that_of_the_lane_while_the_destination_rests(relay: Relay) -> None:
    """The second call's notification is not attempted at all: it waits for no other, but for the end of the rest."""
    relay.bot.headers = {"Retry-After": "600"}
    await failed_call(relay, status=503)
    call_id = await relay.app.register()
    await relay.notify(call_id, "establishing", "established")
    first, second = await relay.listed(call_id)
    wait = datetime.fromisoformat(first["nextAttemptAt"]) - relay.app.clock.now()
    assert timedelta(seconds=540) < wait <= timedelta(seconds=600)  # a minute for a slow machine
    assert second["nextAttemptAt"] is None
    page: Any = await relay.app.asked("GET", "deliveries?status=pending&limit=2")
    assert page["value"] == [second, first]


async def test_a_delivery_about_several_calls_names_them_and_is_listed_with_each(relay: Relay) -> None:
    ids = [await relay.app.register(), await relay.app.register()]
    await relay.app.notify(*(about_call(call_id, state="established") for call_id in ids))
    for call_id in ids:
        (delivery,) = await relay.listed(call_id)
        assert (delivery["callId"], delivery["callIds"]) == (None, ids)


async def test_deliveries_are_listed_by_status_newest_first_page_by_page(relay: Relay) -> None:
    ids = [(await dead_call(relay))[0] for _ in range(3)]
    seen: list[str] = []
    following = ""
    for _ in range(3):
        page: Any = await relay.app.asked("GET", f"deliveries?status=dead&limit=1{following}")
        seen += [each["callId"] for each in page["value"]]
        following = f"&continuation={page['continuation']}"
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        pytest.param("", "status", id="no status"),
        pytest.param("status=", "status", id="empty status"),
        pytest.param("status=lost", "status", id="unknown status"),
        pytest.param("status=Dead", "status", id="status in another case"),
        pytest.param("status=dead&limit=0", "limit", id="limit of 0"),
        pytest.param("status=dead&limit=201", "limit", id="limit one too large"),
        pytest.param("status=dead&continuation=x", "continuation", id="invented continuation"),
    ],
)
async def test_an_invalid_parameter_is_refused_by_its_name(app: App, query: str, pointer: str) -> None:
    problem: Any = await app.asked("GET", f"deliveries?{query}", expect=400)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_a_continuation_of_another_list_is_refused(relay: Relay) -> None:
    for _ in range(2):
        await dead_call(relay)
    page = await relay.app.asked("GET", "deliveries?status=dead&limit=1")
    for other in ("deliveries?status=disabled", "calls?status=ended"):
        await relay.app.ask("GET", f"{other}&continuation={page['continuation']}", expect=400)
    calls: Any = await relay.app.asked("GET", f"calls?limit=1&tenantId={relay.app.tenant}")
    await relay.app.ask("GET", f"deliveries?status=dead&continuation={calls['continuation']}", expect=400)


async def test_a_replayed_delivery_is_attempted_late_with_the_same_id(relay: Relay) -> None:
    call_id, (dead,) = await dead_call(relay)
    replayed: Any = await relay.replay(dead.id)
    assert (replayed["status"], replayed["id"]) == ("pending", dead.id)
    assert replayed["nextAttemptAt"] is not None
    assert len(replayed["attempts"]) == 1  # those before are kept
    await relay.run_queue()
    first, second = relay.bot.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == dead.id
    assert first.headers["Authorization"] != second.headers["Authorization"]
    (delivered,) = await relay.listed(call_id)
    assert (delivered["status"], len(delivered["attempts"])) == ("delivered", 2)


async def test_no_route_returns_a_body(relay: Relay) -> None:
    token = "eyJ-a-recording-access-token"
    call_id = await failed_call(relay, SECRET_STATE)
    await relay.app.notify(about_operation(call_id, str(uuid4()), status="completed", recordingAccessToken=token))
    first, second = await relay.kill(call_id)
    assert SECRET_STATE.encode() in (first.body or b"")
    assert token.encode() in (second.body or b"")
    span: JsonValue = {"target": relay.name, "from": first.received_at.isoformat(), "to": ago(minutes=-5)}
    for method, path, body, expect in (
        ("GET", f"calls/{call_id}/deliveries", None, 200),
        ("GET", "deliveries?status=dead", None, 200),
        ("POST", f"deliveries/{first.id}/replay", {}, 202),
        ("POST", f"deliveries/{first.id}/replay", {}, 409),
        ("GET", "deliveries?status=pending", None, 200),
        ("POST", "deliveries/replay", span, 202),
        ("POST", f"relay/targets/{relay.name}/enable", None, 202),
    ):
        text = (await relay.app.ask(method, path, body, expect=expect)).text
        assert SECRET_STATE not in text
        assert token not in text


async def test_a_replay_has_a_schedule_of_its_own(relay: Relay) -> None:
    """The 24 hours and the refusals of a delivery that was given up long ago do not count."""
    relay.bot.statuses = [400] * 4
    call_id = await relay.app.register()
    await relay.notify(call_id, "established")
    for _ in range(3):
        await test_relay.retry_all(relay.app)
    (dead,) = await relay.listed(call_id)
    assert (dead["status"], len(dead["attempts"])) == ("dead", 4)
    relay.app.clock.ahead += timedelta(hours=25)
    relay.bot.statuses = [400]
    await relay.replay(dead["id"])
    await relay.run_queue()
    (pending,) = await relay.listed(call_id)
    assert (pending["status"], len(pending["attempts"])) == ("pending", 5)
    await test_relay.retry_all(relay.app)
    assert await relay.statuses(call_id) == ["delivered"]


async def test_only_dead_and_disabled_deliveries_are_replayed(relay: Relay) -> None:
    call_id = await relay.app.register()
    await relay.notify(call_id, "establishing")
    relay.bot.statuses = [500]
    await relay.notify(call_id, "established")
    for delivery, word in zip(await relay.listed(call_id), ("was delivered", "is pending"), strict=True):
        problem = await relay.replay(delivery["id"], expect=409)
        assert problem_of(problem) == "delivery-not-replayable"
        assert word in str(problem["detail"])


@pytest.mark.parametrize("is_swept", [True, False], ids=["deleted", "not deleted yet"])
async def test_a_delivery_whose_body_is_too_old_is_not_replayed(relay: Relay, is_swept: bool) -> None:
    call_id, (dead,) = await dead_call(relay)
    relay.app.clock.ahead += timedelta(days=7, minutes=1)  # a minute more than RELAY_BODY_RETENTION
    care = relay.app.parts.outbox_care
    assert care is not None
    if is_swept:
        await care.run(deletes_old=True)
    problem = await relay.replay(dead.id, expect=409)
    assert problem_of(problem) == "delivery-not-replayable"
    assert "RELAY_BODY_RETENTION" in str(problem["detail"])
    span = await relay.replay_span(dead.received_at, dead.received_at)
    assert (span["count"], await relay.statuses(call_id)) == (0, ["dead"])


async def test_a_question_is_not_replayed(relay: Relay) -> None:
    call_id = await failed_call(relay)
    (dead,) = await relay.kill(call_id, wants_answer=True)
    problem = await relay.replay(dead.id, expect=409)
    assert problem_of(problem) == "delivery-not-replayable"
    assert "response to Graph" in str(problem["detail"])
    assert (await relay.replay_span(dead.received_at, dead.received_at))["count"] == 0


async def test_a_delivery_without_a_valid_to_is_not_replayed(relay: Relay) -> None:
    targets = json.loads(relay.settings["RELAY_TARGETS"])
    targets[0]["url"] += "/{to}"
    async with relay.app.configured(RELAY_TARGETS=json.dumps(targets)) as app:
        by_instance = relay.on(app)
        call_id = await app.register()
        await by_instance.notify(call_id, "established")
        (dead,) = await by_instance.listed(call_id)
        assert [attempt["error"] for attempt in dead["attempts"]] == ["noTo"]
        problem = await by_instance.replay(dead["id"], expect=409)
        assert "`to`" in str(problem["detail"])


async def test_a_replay_behind_a_later_delivery_must_be_forced(relay: Relay) -> None:
    call_id, (dead,) = await dead_call(relay)
    await relay.notify(call_id, "terminated")
    assert await relay.statuses(call_id) == ["dead", "delivered"]
    for body in ({}, {"force": False}, {"force": None}):
        problem = await relay.replay(dead.id, expect=409, **body)
        assert problem_of(problem) == "later-delivery-delivered"
        assert '{"force": true}' in str(problem["detail"])
        assert "older state" in str(problem["detail"])
    span = await relay.replay_span(dead.received_at, dead.received_at)
    assert span["count"] == 0
    await relay.replay(dead.id, force=True)
    await relay.run_queue()
    assert await relay.statuses(call_id) == ["delivered", "delivered"]


async def test_a_replay_twice_at_the_same_time_is_done_once(relay: Relay) -> None:
    _, (dead,) = await dead_call(relay)
    await relay.replay(dead.id)
    problem = await relay.replay(dead.id, expect=409)
    assert "is pending" in str(problem["detail"])


async def test_unknown_deliveries_are_404(relay: Relay) -> None:
    for unknown in ("x", "00-0000000000000000-00000000", "99-1234567890123456-0a1b2c3d", uuid4()):
        problem = await relay.replay(str(unknown), expect=404)
        assert problem_of(problem) == "delivery-not-found"


async def test_the_deliveries_of_an_unknown_call_are_404(app: App) -> None:
    problem = await app.asked("GET", f"calls/{uuid4()}/deliveries", expect=404)
    assert problem_of(problem) == "call-not-found"


async def test_a_span_is_replayed_with_its_ends_in_order(relay: Relay) -> None:
    call_id, deliveries = await dead_call(relay, *(f"state{number}" for number in range(4)))
    received = [each.received_at for each in deliveries]
    assert (await relay.replay_span(received[1], received[2]))["count"] == 2
    assert await relay.statuses(call_id) == ["dead", "pending", "pending", "dead"]
    await relay.run_queue()
    assert [each.state for each in relay.bot.received] == ["state0", "state1", "state2"]
    assert (await relay.replay_span(received[0], received[3]))["count"] == 1  # the first is behind delivered ones
    assert (await relay.replay_span(received[0], received[3], force=True))["count"] == 1
    await relay.run_queue()
    assert await relay.statuses(call_id) == ["delivered"] * 4


async def test_a_span_may_be_given_in_any_offset(relay: Relay) -> None:
    _, (dead,) = await dead_call(relay)
    at = dead.received_at.isoformat().replace("+00:00", "Z")
    body: JsonValue = {"target": relay.name, "from": "2026-01-01T00:00:00-05:00", "to": at}
    assert (await relay.app.asked("POST", "deliveries/replay", body, expect=202))["count"] == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        pytest.param({"to": "2026-11-21T08:00:00Z"}, "/to", id="from after to"),
        pytest.param({"from": "2026-11-21"}, "/from", id="a date"),
        pytest.param({"from": "2026-11-21T09:00:00"}, "/from", id="no offset"),
        pytest.param({"from": 1_795_000_000}, "/from", id="a number"),
        pytest.param({"from": "1795000000"}, "/from", id="a number as text"),
        pytest.param({"from": None}, "/from", id="null"),
        pytest.param({"to": "1999-12-31T23:59:59Z"}, "/to", id="before the year 2000"),
        pytest.param({"force": "true"}, "/force", id="force as text"),
        pytest.param({"force": 1}, "/force", id="force as a number"),
        pytest.param({"target": "Bot"}, "/target", id="a name that no target has"),
        pytest.param({"target": None}, "/target", id="no target"),
        pytest.param({"first": "2026-11-21T09:00:00Z"}, "/first", id="unknown member"),
    ],
)
async def test_a_wrong_member_of_a_span_is_refused_by_its_name(
    relay: Relay, changes: dict[str, JsonValue], pointer: str
) -> None:
    body = {"target": relay.name, "from": "2026-11-21T09:00:00Z", "to": "2026-11-21T10:00:00Z", **changes}
    problem: Any = await relay.app.asked("POST", "deliveries/replay", body, expect=400)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize("force", ["true", 1, [], {}], ids=str)
async def test_force_is_a_boolean(relay: Relay, force: JsonValue) -> None:
    _, (dead,) = await dead_call(relay)
    problem: Any = await relay.replay(dead.id, expect=400, force=force)
    assert [error["pointer"] for error in problem["errors"]] == ["/force"]


async def test_an_enabled_target_gets_what_was_held_in_order_and_before_what_is_new(relay: Relay) -> None:
    call_id = await failed_call(relay, "state0", "state1", "state2", status=410)
    assert await relay.statuses(call_id) == ["disabled"] * 3
    assert [each.state for each in relay.bot.received] == ["state0"]
    await relay.run_queue()  # the look after the 410
    assert (await relay.enable())["count"] == 3
    await relay.notify(call_id, "state3")
    assert await relay.statuses(call_id) == ["pending"] * 4
    assert [look.target for look in await relay.run_queue()] == [relay.name]
    assert [each.state for each in relay.bot.received] == ["state0", "state0", "state1", "state2", "state3"]
    assert await relay.statuses(call_id) == ["delivered"] * 4
    assert not any(each.is_replay for each in await relay.app.parts.outbox.list_of_call(call_id))
    await relay.notify(call_id, "state4")
    assert relay.bot.received[-1].state == "state4"


async def test_a_target_that_is_on_may_be_enabled_again(relay: Relay) -> None:
    for _ in range(2):
        assert (await relay.enable())["count"] == 0


async def test_what_another_instance_holds_after_an_enabling_is_resumed_by_the_second_look(relay: Relay) -> None:
    """Another instance may have read the state of the destination a moment before it was enabled."""
    call_id = await failed_call(relay)
    await relay.kill(call_id, DeliveryStatus.DISABLED)
    await relay.app.parts.deliverer.handle(Look(target=relay.name))
    assert await relay.statuses(call_id) == ["delivered"]


async def test_an_instance_that_knows_the_old_state_reads_it_again_before_it_holds_anything(relay: Relay) -> None:
    call_id = await failed_call(relay, status=410)
    async with relay.app.configured(Services, **relay.settings) as another:  # it reads the states when it is asked
        await another.parts.destinations.refresh()
        await relay.app.parts.destinations.enable(relay.name)
        await relay.on(another).notify(call_id, "terminated")
    assert relay.bot.received[-1].state == "terminated"


async def test_a_look_leaves_what_is_held_for_a_destination_that_is_off(relay: Relay) -> None:
    call_id = await failed_call(relay, status=410)
    await relay.app.parts.deliverer.handle(Look(target=relay.name))
    assert await relay.statuses(call_id) == ["disabled"]
    assert len(relay.bot.received) == 1


async def test_a_replay_goes_to_a_target_that_is_off_and_does_not_enable_it(relay: Relay) -> None:
    call_id = await failed_call(relay, "state0", "state1", status=410)
    first, _ = await relay.listed(call_id)
    await relay.replay(first["id"])
    await relay.run_queue()
    assert [each.state for each in relay.bot.received] == ["state0", "state0"]
    assert await relay.statuses(call_id) == ["delivered", "disabled"]
    await relay.notify(call_id, "state2")
    assert await relay.statuses(call_id) == ["delivered", "disabled", "disabled"]


async def test_unknown_targets_are_404(relay: Relay) -> None:
    elsewhere = replace(relay, name="another")
    now = relay.app.clock.now()
    for problem in (await elsewhere.enable(expect=404), await elsewhere.replay_span(now, now, expect=404)):
        assert problem_of(problem) == "target-not-found"


async def test_with_the_relay_off_what_is_left_is_shown_and_nothing_is_replayed(relay: Relay) -> None:
    call_id, (dead,) = await dead_call(relay)
    async with relay.app.configured() as app:
        off = relay.on(app)
        assert [each["id"] for each in await off.listed(call_id)] == [dead.id]
        now = app.clock.now()
        for problem in (
            await off.replay(dead.id, expect=404),
            await off.replay_span(now, now, expect=404),
            await off.enable(expect=404),
        ):
            assert problem_of(problem) == "target-not-found"
        page: Any = await app.asked("GET", "deliveries?status=dead")
        assert dead.id in [each["id"] for each in page["value"]]
        assert await off.listed(await app.register()) == []


@pytest.mark.parametrize(
    ("scope", "sees", "manages"),
    [
        pytest.param({"apps": [APP_ID]}, True, True, id="its app"),
        pytest.param({"tenants": ["here"], "apps": [APP_ID]}, True, True, id="its tenant and app"),
        pytest.param({"tenants": ["here"]}, True, False, id="its tenant, all apps"),
        pytest.param({"tenants": ["here"], "apps": [str(uuid4())]}, False, False, id="another app"),
        pytest.param({"tenants": [str(uuid4())]}, False, False, id="another tenant"),
        pytest.param({"tenants": [str(uuid4())], "apps": [APP_ID]}, False, True, id="its app, another tenant"),
        pytest.param("all", True, True, id="all"),
    ],
)
async def test_a_bound_caller_sees_and_replays_only_its_own(
    relay: Relay,
    scope: dict[str, list[str]] | str,
    sees: bool,
    manages: bool,
) -> None:
    if isinstance(scope, dict):
        scope = {kind: [each.replace("here", relay.app.tenant) for each in ids] for kind, ids in scope.items()}
    call_id, (dead,) = await dead_call(relay)
    callers = {BOUND: scope, OPERATOR: "all"}
    settings = {**relay.settings, **asking_for_tokens(), "MANAGEMENT_CALLERS": json.dumps(callers)}
    async with relay.app.configured(Services, **settings) as app:
        bound, headers = relay.on(app), await bearer(app, *Role, appId=BOUND)
        await app.ask("GET", f"calls/{call_id}/deliveries", expect=200 if sees else 404, headers=headers)
        page: Any = await app.asked("GET", "deliveries?status=dead&limit=200", headers=headers)
        assert (dead.id in [each["id"] for each in page["value"]]) is sees
        span = await bound.replay_span(
            dead.received_at, dead.received_at, expect=202 if manages else 404, headers=headers
        )
        assert span.get("count") == ((1 if sees else 0) if manages else None)
        await bound.enable(expect=202 if manages else 404, headers=headers)
        await bound.kill(call_id)
        problem = await bound.replay(dead.id, expect=202 if sees else 404, headers=headers)
        assert sees or problem_of(problem) == "delivery-not-found"


async def test_a_target_for_the_events_of_all_apps_is_not_a_bound_callers(relay: Relay) -> None:
    events = {"name": relay.name, "url": relay.bot.url, "format": "events", "audience": APP_ID}
    callers = {BOUND: {"apps": [APP_ID]}, OPERATOR: "all"}
    settings = {"RELAY_TARGETS": json.dumps([events]), "MANAGEMENT_CALLERS": json.dumps(callers)}
    async with relay.app.configured(Services, **asking_for_tokens(), **settings) as app:
        for caller, expect in ((BOUND, 404), (OPERATOR, 202)):
            await relay.on(app).enable(expect=expect, headers=await bearer(app, *Role, appId=caller))


async def test_a_continuation_is_valid_only_for_the_caller_that_received_it(relay: Relay) -> None:
    for _ in range(2):
        await dead_call(relay)
    async with relay.app.configured(Services, **relay.settings, **asking_for_tokens()) as app:
        mine, theirs = [await bearer(app, Role.READ, appId=caller) for caller in (BOUND, OPERATOR)]
        page = await app.asked("GET", "deliveries?status=dead&limit=1", headers=mine)
        following = f"deliveries?status=dead&limit=1&continuation={page['continuation']}"
        await app.ask("GET", following, expect=200, headers=mine)
        await app.ask("GET", following, expect=400, headers=theirs)


async def test_a_reader_may_not_replay(relay: Relay) -> None:
    _, (dead,) = await dead_call(relay)
    async with relay.app.configured(Services, **relay.settings, **asking_for_tokens()) as app:
        reader = await bearer(app, Role.READ)
        await app.ask("GET", "deliveries?status=dead", expect=200, headers=reader)
        reading = relay.on(app)
        now = app.clock.now()
        await reading.replay(dead.id, expect=403, headers=reader)
        await reading.replay_span(now, now, expect=403, headers=reader)
        await reading.enable(expect=403, headers=reader)
