"""The contract of the relay on the wire: a real host between a simulated Graph and a bot of the test.

Each test has destinations of its own: the last part of the bot's path is the `to` of the callback.
"""

import base64
import gzip
import json
import secrets
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from standardwebhooks import Webhook

from local.stack.stack import APP_ID, Options
from soak.real.world import TENANT, World, running
from tests.system.e2e.scripted_bot import Received, Reply, ScriptedBot, running_bot

pytestmark = pytest.mark.timeout(180)

SPEED = 120  # a lease is 22.5 s, and the shortest waits of the relay are a second
BUDGET, SYNC_BUDGET = 1.5, 2  # seconds: a busy machine must not use them up
SIGNED_APP, OTHER_TENANT = str(uuid.uuid4()), str(uuid.uuid4())
SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
CORRELATION = {
    "scenario-id": str(uuid.uuid4()),
    "x-microsoft-skype-chain-id": "the chain",
    "x-microsoft-skype-message-id": "the message",
    "client-request-id": "the request",
}
OF_THE_CONNECTION = {"host", "accept-encoding", "user-agent", "content-length"}  # each client makes its own
FIRST = {"authorization", "content-type", "webhook-id", *CORRELATION}
BOT_HEADERS = {"x-microsoft-bot-auth-type": "oid", "x-microsoft-bot-sdk-version": "1.2"}
BAD_TO = ("", "?to=", "?to=a&to=b", "?to=a&to=a", "?to=a_b", f"?to={65 * 'a'}", "?to=a%2Fb", "?to=..", "?to=%C3%A9")
REFUSED = (301, 302, 304, 307, 308, 400, 401, 403, 404, 408, 409, 413)
FAILED = (500, 501, 505)

type Json = Mapping[str, object]


class Attempt(BaseModel):
    """An attempt as the API shows it."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    at: AwareDatetime
    status: int | None
    error: str | None
    latency_ms: int


class Delivery(BaseModel):
    """A delivery as the API shows it. No other member is allowed, and none may be absent."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    id: str
    call_id: str | None
    call_ids: list[str] | None
    target: str
    to: str | None
    type: str
    status: str
    attempts: list[Attempt]
    received_at: AwareDatetime
    delivered_at: AwareDatetime | None
    next_attempt_at: AwareDatetime | None

    @property
    def log(self) -> list[int | str | None]:
        """The status of each attempt, or its error."""
        return [each.status or each.error for each in self.attempts]


@dataclass
class Relay:
    """The running parts, and what tests do with them."""

    world: World
    bot: ScriptedBot
    client: httpx.Client

    def begin(self, app_id: str = APP_ID, tenant: str = TENANT) -> str:
        """Start a call at Graph that sends no notification by itself. Return its id."""
        call = {"id": str(uuid.uuid4()), "tenantId": tenant, "appId": app_id, "quiet": True}
        self.world.control("POST", "/calls", call)
        return str(call["id"])

    def token(self, app_id: str = APP_ID, life: int = 300, tenant: str = TENANT) -> str:
        """Return a bearer token of Graph that lives for so many seconds from now."""
        wanted = {"kind": "notification", "appId": app_id, "tenantId": tenant, "expiresIn": life}
        return str(self.world.control("POST", "/tokens", wanted).json()["token"])

    def notify(self, body: bytes, query: str = "", *, token: str = "", **headers: str) -> httpx.Response:
        """Send a body as Graph does. A header's name has `_` for `-`."""
        usual = {"Authorization": f"Bearer {token or self.token()}", "Content-Type": "application/json; charset=utf-8"}
        sent = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"{self.world.stack.api}/notifications{query}", content=body, headers=sent)

    def send(self, to: str, count: int = 1, call_id: str = "") -> str:
        """Send notifications of one call, whose bodies have the numbers from 0 as `n`. Return the id of the call."""
        call_id = call_id or self.begin()
        for number in range(count):
            assert self.notify(body(item(call_id), n=number), f"?to={to}").status_code == httpx.codes.ACCEPTED
        return call_id

    def received(self, to: str) -> list[Received]:
        """Return what the bot received for a `to`."""
        return self.bot.received(f"/bot/{to}")

    def reply(self, to: str, *replies: Reply | int) -> None:
        """Set the bot's replies for a `to`."""
        self.bot.reply(f"/bot/{to}", *replies)

    def deliveries(self, call_id: str, type_: str = "notification") -> list[Delivery]:
        """Return the deliveries of a call that have this type, oldest first."""
        found = self.world.request_ok("GET", f"/calls/{call_id}/deliveries").json()["value"]
        return [each for each in map(Delivery.model_validate, found) if each.type == type_]

    def statuses(self, *calls: str) -> list[str]:
        """Return the status of each delivery of these calls."""
        return [each.status for call_id in calls for each in self.deliveries(call_id)]

    def wait_until_delivered(self, *calls: str) -> None:
        """Wait until all deliveries of these calls are delivered."""
        self.world.wait_until(lambda: set(self.statuses(*calls)) == {"delivered"})

    def post(self, path: str, body_: Json | None = None) -> tuple[int, str]:
        """Send a POST to the API. Return the status, and the last word of the problem's type."""
        answer = self.world.request("POST", path, body_)
        return answer.status_code, "" if answer.is_success else str(answer.json()["type"]).rpartition(":")[2]

    def replay(self, delivery: Delivery, **body_: bool) -> tuple[int, str]:
        """Replay a delivery. Return what `post` returns."""
        return self.post(f"/deliveries/{delivery.id}/replay", body_ or None)


@pytest.fixture(scope="module")
def relay() -> Iterator[Relay]:
    with running_bot() as bot:
        targets: list[Json] = [
            {"name": "bot", "url": f"{bot.address}/bot/{{to}}", "format": "graph"},
            {"name": "signed", "url": f"{bot.address}/signed", "format": "graph", "appId": SIGNED_APP}
            | {"secretSetting": "BOT_SECRET"},
            {"name": "events", "url": f"{bot.address}/events", "format": "events", "secretSetting": "BOT_SECRET"},
            {"name": "tickets", "url": f"{bot.address}/tickets", "format": "events", "types": ["call.ended"]}
            | {"audience": "api://tickets", "appId": APP_ID},
        ]
        app = {"appId": SIGNED_APP, "credential": "secret", "clientSecretSetting": "SECOND_SECRET"}
        settings = {
            "GRAPH_APPS": json.dumps([app]),
            "SECOND_SECRET": "a secret of the second bot",
            "BOT_SECRET": SECRET,
            "RELAY_TARGETS": json.dumps(targets),
            "RELAY_BUDGET": f"PT{BUDGET}S",
            "RELAY_SYNC_BUDGET": f"PT{SYNC_BUDGET}S",
        }
        options = Options(speed=SPEED, schedule="*/7 * * * * *", settings=settings)
        with running(options) as world, httpx.Client(timeout=30) as client:
            yield Relay(world, bot, client)


def item(call_id: str, state: str = "established") -> Json:
    return _item(call_id, {"@odata.type": "#microsoft.graph.call", "state": state})


def question(call_id: str) -> Json:
    """A notification that wants its answer in the response."""
    return _item(call_id, {"@odata.type": "#microsoft.graph.participantJoiningNotification", "call": {"id": call_id}})


def body(*items: Json, **more: object) -> bytes:
    return json.dumps({"@odata.type": "#microsoft.graph.commsNotifications", "value": items, **more}).encode()


def numbers(received: list[Received]) -> list[int]:
    """The numbers of the bodies that `Relay.send` sent."""
    return [int(json.loads(each.body)["n"]) for each in received]


def _item(call_id: str, data: Json) -> Json:
    path = f"/communications/calls/{call_id}"
    return {"changeType": "updated", "resource": path, "resourceUrl": path, "resourceData": data}


class TestFirstAttempt:
    def test_the_bot_gets_graphs_request_and_nothing_else_of_it(self, relay: Relay) -> None:
        call_id, token = relay.begin(), relay.token()
        text = json.dumps({"value": [item(call_id)], "note": "Zoë 小林 🎧"}, ensure_ascii=False, indent=3)
        sent = b"\xef\xbb\xbf\r\n" + text.replace("/", "\\/").encode() + b"\n\n"
        strange = {"webhook-signature": "v1,forged", "cookie": "a=b", "x-forwarded-for": "192.0.2.1", "x-other": "1"}
        answer = relay.notify(
            sent, "?code=of-ours&to=first", token=token, **CORRELATION, **strange, **{"webhook-id": "forged"}
        )

        assert (answer.status_code, answer.content) == (httpx.codes.ACCEPTED, b"")
        (first,) = relay.received("first")
        assert first.body == sent
        assert first.names - OF_THE_CONNECTION == FIRST
        assert first.header("authorization") == f"Bearer {token}"
        assert first.header("content-type") == "application/json; charset=utf-8"
        assert {name: first.header(name) for name in CORRELATION} == CORRELATION
        assert first.header("host") == relay.bot.address.removeprefix("http://")
        assert first.header("webhook-id") == relay.deliveries(call_id)[0].id
        assert "." not in first.header("webhook-id")

    @pytest.mark.parametrize("life", [pytest.param(25, id="about to expire"), pytest.param(-60, id="in the tolerance")])
    def test_a_bearer_with_little_life_is_replaced_by_a_token_of_ours(self, relay: Relay, life: int) -> None:
        to = f"life-{life}"
        relay.notify(body(item(relay.begin())), f"?to={to}", token=relay.token(life=life))
        (late,) = relay.received(to)
        assert _bot_of(late) == (APP_ID, APP_ID, TENANT)
        assert "webhook-timestamp" in late.names

    def test_a_to_that_is_absent_or_bad_makes_a_dead_delivery(self, relay: Relay) -> None:
        for query in BAD_TO:
            call_id = relay.begin()
            if query:
                registration = {"tenantId": TENANT, "appId": APP_ID, "to": "registered"}
                relay.world.request_ok("PUT", f"/calls/{call_id}", registration)
            assert relay.notify(body(item(call_id)), query).status_code == httpx.codes.ACCEPTED
            (delivery,) = relay.deliveries(call_id)
            assert (delivery.status, delivery.log, delivery.attempts[0].latency_ms) == ("dead", ["noTo"], 0), query
            assert relay.replay(delivery)[0] == httpx.codes.CONFLICT
            known = relay.world.stored_call(call_id)
            assert known
            assert known.state == "established"
        assert relay.received("registered") == []
        relay.send("a" * 64)
        assert relay.received("a" * 64)

    def test_a_body_that_is_refused_is_not_forwarded(self, relay: Relay) -> None:
        good, to = body(item(relay.send("known"))), "?to=refused"
        answers = [
            relay.notify(good, to, token=relay.token() + "x"),
            relay.notify(b"{", to),
            relay.notify(b"[]", to),
            relay.notify(gzip.compress(good), to, content_encoding="gzip"),
            relay.notify(good, to, token=relay.token(SIGNED_APP)),  # the call belongs to another bot
            relay.notify(body(), to),
        ]
        assert [each.status_code for each in answers] == [401, 400, 400, 415, 403, 202]
        assert relay.received("refused") == []

    def test_a_repeated_notification_is_relayed_again(self, relay: Relay) -> None:
        call_id = relay.begin()
        for _ in range(2):
            relay.notify(body(item(call_id)), "?to=repeated")
        assert len({each.header("webhook-id") for each in relay.received("repeated")}) == 2

    def test_a_body_about_several_calls_is_split_only_if_it_must(self, relay: Relay) -> None:
        relay.reply("several", Reply(headers=BOT_HEADERS))
        one, other, foreign = relay.begin(), relay.begin(), relay.begin()
        relay.world.request_ok("PUT", f"/calls/{foreign}", {"tenantId": OTHER_TENANT, "appId": APP_ID})
        together, mixed = body(item(one), item(other), n=0), body(item(one), item(foreign), item(one), n=1)
        whole, split = (relay.notify(sent, "?to=several") for sent in (together, mixed))

        assert {name: whole.headers[name] for name in BOT_HEADERS} == BOT_HEADERS
        assert not BOT_HEADERS.keys() & split.headers.keys()
        first, second = relay.received("several")
        assert first.body == together
        assert json.loads(second.body) == {**json.loads(mixed), "value": [item(one), item(one)]}
        (delivery,) = relay.deliveries(other)
        assert (delivery.call_id, set(delivery.call_ids or [])) == (None, {one, other})

    def test_a_bot_that_hangs_or_fails_does_not_change_the_answer(self, relay: Relay) -> None:
        relay.reply("hangs", Reply(headers=BOT_HEADERS, delay=BUDGET + 0.5), 202)
        relay.reply("fails", Reply(500, b"no", headers=BOT_HEADERS | {"x-other": "1", "set-cookie": "a=b"}), 202)
        calls = [relay.begin(), relay.begin()]
        hung = relay.notify(body(item(calls[0])), "?to=hangs")
        failed = relay.notify(body(item(calls[1])), "?to=fails")
        assert [(each.status_code, each.content) for each in (hung, failed)] == 2 * [(202, b"")]
        assert hung.elapsed < timedelta(seconds=10 * BUDGET)  # the webhook's own work beside the budget
        assert hung.headers.keys() - {"date"} == {"content-length", "content-type"}
        assert failed.headers.keys() - {"date"} == {"content-length", "content-type", *BOT_HEADERS}
        relay.wait_until_delivered(*calls)
        assert [relay.deliveries(each)[0].log for each in calls] == [["timeout", 202], [500, 202]]


class TestQuestions:
    """Notifications that want their answer in the response."""

    def test_graph_gets_the_bots_answer(self, relay: Relay) -> None:
        typed = {"Content-Type": "application/json; odata=minimal"}
        replies = [
            Reply(200, b'{"a": "\xc3\xa9"}', typed),
            Reply(401),
            Reply(500, b"no", typed),
            Reply(delay=SYNC_BUDGET + 0.5),
        ]
        replies.append(Reply(is_cut=True))
        answers, found = [], []
        for number, reply in enumerate(replies):
            relay.reply(f"ask-{number}", reply, 299)
            call_id = relay.begin()
            answers.append(relay.notify(body(question(call_id)), f"?to=ask-{number}"))
            found += relay.deliveries(call_id)

        assert [each.status_code for each in answers] == [200, 401, 500, 202, 202]
        assert [each.content for each in answers] == [*(each.body for each in replies[:3]), b"", b""]
        assert {answers[number].headers["content-type"] for number in (0, 2)} == {typed["Content-Type"]}
        assert [each.status for each in found] == [*3 * ["delivered"], "dead", "dead"]
        assert {relay.replay(each) for each in found} == {(409, "delivery-not-replayable")}
        assert [len(relay.received(f"ask-{number}")) for number in range(len(replies))] == len(replies) * [1]

    def test_it_waits_for_nothing_and_nothing_waits_for_it(self, relay: Relay) -> None:
        relay.reply("beside", 500, Reply(200, b"now"), 202)
        call_id = relay.send("beside")
        answer = relay.notify(body(question(call_id)), "?to=beside")
        assert (answer.status_code, answer.content) == (200, b"now")
        relay.wait_until_delivered(call_id)

    def test_a_destination_that_is_off_or_rests_is_not_asked(self, relay: Relay) -> None:
        for to, first, error in (("ask-off", Reply(410), "disabled"), ("ask-rest", _rest(3), "resting")):
            relay.reply(to, first, 202)
            relay.send(to)
            call_id = relay.begin()
            assert relay.notify(body(question(call_id)), f"?to={to}").status_code == httpx.codes.ACCEPTED
            assert [(each.status, each.log) for each in relay.deliveries(call_id)] == [("dead", [error])]
            assert len(relay.received(to)) == 1


class TestLateDeliveries:
    def test_it_carries_the_same_request_with_a_token_of_the_bot(self, relay: Relay) -> None:
        relay.reply("late", 500, 202)
        call_id, token = relay.begin(), relay.token()
        relay.notify(body(item(call_id)), "?to=late", token=token, **CORRELATION)
        relay.wait_until_delivered(call_id)

        first, late = relay.received("late")
        assert late.names - OF_THE_CONNECTION == FIRST | {"webhook-timestamp"}
        assert late.body == first.body
        same = FIRST - {"authorization"}
        assert {name: late.header(name) for name in same} == {name: first.header(name) for name in same}
        assert _bot_of(late) == (APP_ID, APP_ID, TENANT)

    def test_a_stock_library_verifies_the_signature(self, relay: Relay) -> None:
        relay.bot.reply("/signed", 500, 202)
        call_id = relay.begin(SIGNED_APP)
        relay.notify(sent := body(item(call_id)), token=relay.token(SIGNED_APP))
        relay.wait_until_delivered(call_id)
        first, late = relay.bot.received("/signed")
        assert not {"webhook-signature", "webhook-timestamp"} & first.names
        assert late.body == sent
        Webhook(SECRET).verify(late.body, _signature(late))
        assert _bot_of(late) == (SIGNED_APP, SIGNED_APP, TENANT)

    def test_a_delivery_without_a_token_of_ours_waits_and_says_why(self, relay: Relay) -> None:
        tenant = str(uuid.uuid4())  # no token is cached for it
        registration: Json = {"secret": relay.world.stack.settings()["GRAPH_CLIENT_SECRET"]}
        relay.world.control("PUT", f"/apps/{APP_ID}", {**registration, "refusedAudiences": {APP_ID: "notFound"}})
        call_id = relay.begin(tenant=tenant)
        relay.notify(body(item(call_id)), "?to=no-token", token=relay.token(tenant=tenant, life=20))
        (delivery,) = relay.deliveries(call_id)
        assert (delivery.status, delivery.attempts[0].status) == ("pending", None)
        assert str(delivery.log[0]).startswith("noToken: ")
        assert "The tenant does not know the audience" in str(delivery.log[0])
        assert relay.received("no-token") == []
        relay.world.control("PUT", f"/apps/{APP_ID}", registration)
        relay.wait_until_delivered(call_id)
        assert _bot_of(relay.received("no-token")[0]) == (APP_ID, APP_ID, tenant)


class TestOrderAndRetries:
    def test_the_deliveries_of_a_call_keep_their_order(self, relay: Relay) -> None:
        relay.reply("order", 500, 500, 202)
        call_id = relay.send("order", 4)
        assert [(each.log, each.next_attempt_at) for each in relay.deliveries(call_id)[1:]] == 3 * [([], None)]
        relay.wait_until_delivered(call_id)
        assert numbers(relay.received("order")) == [0, 0, 0, 1, 2, 3]

    def test_each_status_has_its_consequence(self, relay: Relay) -> None:
        calls = {}
        for status in (200, 204, 299, *REFUSED, *FAILED):
            elsewhere = {"Location": f"{relay.bot.address}/elsewhere"} if httpx.codes.is_redirect(status) else {}
            relay.reply(f"status-{status}", Reply(status, headers=elsewhere))
        for status in (200, 204, 299, *REFUSED, *FAILED):
            calls[status] = relay.send(f"status-{status}")
        after = relay.send("status-404", call_id=calls[404])  # it follows when the one before is dead
        relay.world.wait_until(lambda: all(relay.statuses(calls[each])[0] == "dead" for each in REFUSED))

        assert relay.statuses(calls[200], calls[204], calls[299]) == 3 * ["delivered"]
        for status in REFUSED:
            log = relay.deliveries(calls[status])[0].log
            assert log == len(log) * [status]
            assert 3 <= len(log) <= 5
        assert relay.statuses(*(calls[each] for each in FAILED)) == len(FAILED) * ["pending"]
        assert "/elsewhere" not in relay.bot.paths()
        first, *others = (each.header("authorization") for each in relay.received("status-401"))
        assert [each == first for each in others] == [True, *(len(others) - 1) * [False]]
        relay.world.wait_until(lambda: relay.deliveries(after)[1].attempts)

    def test_after_401_graphs_bearer_is_tried_once_more(self, relay: Relay) -> None:
        relay.reply("rolled", 401, 202)
        assert relay.statuses(relay.send("rolled")) == ["delivered"]
        first, again = relay.received("rolled")
        assert again.headers == first.headers

    def test_retry_after_holds_for_the_destination(self, relay: Relay) -> None:
        relay.reply("rests", _rest(3), 202)
        calls = [relay.send("rests"), relay.send("rests")]
        assert [relay.deliveries(each)[0].log for each in calls] == [[503], []]
        relay.wait_until_delivered(*calls)
        first, *later = relay.received("rests")
        assert min(each.at - first.at for each in later) > 3 - 0.1  # the clocks of two processes may differ so far
        relay.reply("rests-long", _rest(7200))
        (delivery,) = relay.deliveries(relay.send("rests-long"))
        assert delivery.next_attempt_at
        assert delivery.next_attempt_at - delivery.received_at < timedelta(hours=1, minutes=1)

    def test_a_breaker_opens_and_closes_again(self, relay: Relay) -> None:
        relay.reply("broken", 500)
        calls = [relay.send("broken") for _ in range(8)]
        relay.notify(body(question(asked := relay.begin())), "?to=broken")
        assert [(each.status, each.log) for each in relay.deliveries(asked)] == [("dead", ["breakerOpen"])]
        before = len(relay.received("broken"))
        relay.world.wait_until(lambda: len(relay.received("broken")) > before)  # a probe
        assert relay.statuses(relay.send("well")) == ["delivered"]
        relay.reply("broken", 202)
        relay.wait_until_delivered(*calls)
        behind = [each for each in relay.received("broken") if any(one.encode() in each.body for one in calls[5:])]
        assert all("webhook-timestamp" in each.names for each in behind)  # none had a first attempt

    def test_a_bot_that_was_away_gets_all_in_order(self, relay: Relay) -> None:
        relay.bot.stop()
        try:
            calls = [relay.send("away", 3) for _ in range(2)]
            assert relay.deliveries(calls[0])[0].log[0] == "refused"
        finally:
            relay.bot.start()
        relay.wait_until_delivered(*calls)
        for call_id in calls:
            assert numbers([each for each in relay.received("away") if call_id.encode() in each.body]) == [0, 1, 2]

    def test_a_bot_that_hangs_delays_no_other(self, relay: Relay) -> None:
        relay.reply("stuck", Reply(delay=2 * BUDGET))
        calls = [relay.begin() for _ in range(8)]
        with ThreadPoolExecutor() as pool:
            slow = [pool.submit(relay.notify, body(item(each)), "?to=stuck") for each in calls]
            other = relay.send("not-stuck")
            assert {each.result().status_code for each in slow} == {202}
        assert relay.statuses(other) == ["delivered"]


class TestSwitchedOff:
    def test_what_is_held_is_delivered_in_order_once_the_target_is_enabled(self, relay: Relay) -> None:
        relay.reply("gone", 410, 410, 202)
        call_id = relay.send("gone", 3)
        held = relay.deliveries(call_id)
        assert [(each.status, each.log, each.next_attempt_at) for each in held] == [
            ("disabled", [410], None),
            ("disabled", [], None),
            ("disabled", [], None),
        ]
        listed = relay.world.request_ok("GET", "/deliveries?status=disabled").json()["value"]
        assert {each.id for each in held} <= {Delivery.model_validate(each).id for each in listed}
        assert relay.replay(held[0]) == (202, "")  # attempted all the same, and refused again
        relay.world.wait_until(lambda: relay.deliveries(call_id)[0].log == [410, 410])
        relay.world.wait_until(lambda: relay.statuses(call_id) == 3 * ["disabled"])

        assert relay.post("/relay/targets/unknown/enable") == (404, "target-not-found")
        assert relay.post("/relay/targets/bot/enable") == (202, "")
        relay.wait_until_delivered(call_id)
        assert numbers(relay.received("gone")) == [0, 0, 0, 1, 2]
        assert relay.statuses(relay.send("gone")) == ["delivered"]

    def test_a_replay_keeps_the_id_and_switches_nothing_on(self, relay: Relay) -> None:
        relay.reply("replayed", 410, 202)
        call_id = relay.send("replayed", 2)
        older, newer = relay.deliveries(call_id)
        assert relay.replay(newer) == (202, "")
        relay.world.wait_until(lambda: relay.statuses(call_id) == ["disabled", "delivered"])
        assert relay.received("replayed")[-1].header("webhook-id") == newer.id
        assert relay.replay(newer) == (409, "delivery-not-replayable")
        assert relay.replay(older) == (409, "later-delivery-delivered")
        assert relay.statuses(relay.send("replayed")) == ["disabled"]
        assert relay.replay(older, force=True) == (202, "")
        relay.world.wait_until(lambda: relay.statuses(call_id) == 2 * ["delivered"])
        assert numbers(relay.received("replayed")) == [0, 1, 0]
        assert _bot_of(relay.received("replayed")[-1]) == (APP_ID, APP_ID, TENANT)

    def test_a_span_is_replayed_in_order_without_what_is_overtaken(self, relay: Relay) -> None:
        relay.reply("span", 410, 202)
        overtaken, call_id = relay.send("span", 2), relay.send("span", 3)
        relay.replay(relay.deliveries(overtaken)[1])
        relay.world.wait_until(lambda: relay.statuses(overtaken) == ["disabled", "delivered"])
        first, last = relay.deliveries(overtaken)[0].received_at, relay.deliveries(call_id)[-1].received_at

        assert _replay_span(relay, first, last) == {"count": 3}
        relay.wait_until_delivered(call_id)
        mine = [each for each in relay.received("span") if call_id.encode() in each.body]
        assert numbers(mine) == [0, 1, 2]
        assert _replay_span(relay, first, last) == {"count": 0}
        assert _replay_span(relay, first, first, force=True) == {"count": 1}  # ends included
        relay.wait_until_delivered(overtaken)

    def test_requests_that_cannot_be_met_are_refused(self, relay: Relay) -> None:
        day = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
        backwards = {"from": day["to"], "to": day["from"]}
        assert relay.post("/deliveries/replay", {"target": "unknown", **day}) == (404, "target-not-found")
        assert relay.post("/deliveries/replay", {"target": "bot", **backwards})[0] == httpx.codes.BAD_REQUEST
        assert relay.post("/deliveries/00-0000000000000001-00000000/replay") == (404, "delivery-not-found")
        assert relay.world.request("GET", "/deliveries").status_code == httpx.codes.BAD_REQUEST
        assert relay.world.request("GET", "/deliveries?status=other").status_code == httpx.codes.BAD_REQUEST
        assert relay.world.request("GET", f"/calls/{uuid.uuid4()}/deliveries").status_code == httpx.codes.NOT_FOUND


def test_events_have_their_own_ids_and_proofs(relay: Relay) -> None:
    call_id = relay.begin()
    relay.world.request_ok("PUT", f"/calls/{call_id}", {"tenantId": TENANT, "appId": APP_ID, "to": "registered"})
    relay.send("events", 2, call_id)
    relay.world.forget(call_id)
    relay.world.request_ok("POST", "/keep-alive")
    relay.world.wait_until(lambda: _events(relay, "tickets", call_id))
    relay.notify(body(_end(call_id)), "?to=events")
    relay.world.wait_until(lambda: len(_events(relay, "tickets", call_id)) == 2)
    relay.world.wait_until(lambda: len(_events(relay, "events", call_id)) == 3)

    signed, with_token = _events(relay, "events", call_id), _events(relay, "tickets", call_id)
    assert [_event(each)["type"] for each in signed] == ["call.established", "call.ended", "call.ended"]
    assert [_revision(each) for each in with_token] == [1, 2]
    for each in signed:
        Webhook(SECRET).verify(each.body, _signature(each))
        assert "authorization" not in each.names
    for each in with_token:
        assert "webhook-signature" not in each.names
        assert _bot_of(each) == ("api://tickets", APP_ID, TENANT)
    for each in (*signed, *with_token):
        assert _event(each).keys() == {"id", "type", "timestamp", "version", "data"}
        assert _event(each)["id"] == each.header("webhook-id")
    assert len({each.header("webhook-id") for each in (*signed, *with_token)}) == len(signed) + len(with_token)


def test_wrong_settings_switch_off_the_relay_alone(relay: Relay) -> None:
    bad = [{"name": "bot", "url": "https://user:password@bot.example/{to}", "format": "graph"}]
    host = relay.world.stack.add_host(settings={"RELAY_TARGETS": json.dumps(bad), "RELAY_BUDGET": "PT11S"})
    number = len(relay.world.stack.hosts) - 1
    health = relay.world.request("GET", "/health", host=number)
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert {"RELAY_TARGETS", "RELAY_BUDGET"} <= set(health.json()["checks"]["settings"].split())
    assert "password" not in health.text

    call_id = relay.begin()
    headers = {"Authorization": f"Bearer {relay.token()}", "Content-Type": "application/json"}
    answer = relay.client.post(f"{host.api}/notifications?to=off", content=body(item(call_id)), headers=headers)
    assert answer.status_code == httpx.codes.ACCEPTED
    known = relay.world.stored_call(call_id)
    assert known
    assert known.state == "established"
    assert relay.deliveries(call_id) == []
    assert relay.received("off") == []
    host.child.kill()


def _rest(seconds: int) -> Reply:
    return Reply(503, headers={"Retry-After": str(seconds)})


def _bot_of(received: Received) -> tuple[object, object, object]:
    """Return whom the token is for, who requested it, and its tenant."""
    claims = received.claims()
    return claims["aud"], claims.get("azp") or claims.get("appid"), claims["tid"]


def _signature(received: Received) -> dict[str, str]:
    return {name: received.header(name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}


def _replay_span(relay: Relay, first: datetime, last: datetime, **more: bool) -> object:
    span = {"target": "bot", "from": first.isoformat(), "to": last.isoformat(), **more}
    return relay.world.request_ok("POST", "/deliveries/replay", span).json()


def _events(relay: Relay, target: str, call_id: str) -> list[Received]:
    return [each for each in relay.bot.received(f"/{target}") if call_id.encode() in each.body]


def _event(received: Received) -> dict[str, object]:
    return dict(json.loads(received.body))


def _revision(received: Received) -> int:
    return int(json.loads(received.body)["data"]["revision"])


def _end(call_id: str) -> Json:
    result = {"@odata.type": "#microsoft.graph.resultInfo", "code": 200, "subcode": 5010, "message": "Alone."}
    data = {"@odata.type": "#microsoft.graph.call", "state": "terminated", "resultInfo": result}
    return {**_item(call_id, data), "changeType": "deleted"}
