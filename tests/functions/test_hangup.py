"""Hanging up."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.domain.calls import Status
from shared.domain.leases import Timing
from shared.errors import StoreUnavailable
from shared.services import Services
from shared.storage.wakeup_queue import Renew, WakeUp
from tests.functions.harness import App, about_call, ago


class WatchedQueue:
    """Keeps the messages for a look at them."""

    def __init__(self) -> None:
        self.sent: list[tuple[WakeUp, float]] = []
        self.broken = False

    async def send(self, message: WakeUp, delay: timedelta = timedelta()) -> None:
        if self.broken:
            raise StoreUnavailable("Queue Storage did not take a message (test).")
        self.sent.append((message, delay.total_seconds()))


class WithWatchedQueue(Services):
    queue = WatchedQueue()  # type: ignore[assignment] # the part of StorageQueue that is used


@pytest.fixture
def queue() -> WatchedQueue:
    WithWatchedQueue.queue = WatchedQueue()
    return WithWatchedQueue.queue


async def test_a_call_is_hung_up_at_graph_and_its_end_comes_by_notification(app: App) -> None:
    call_id = await app.register()
    call: Any = await app.asked("POST", f"calls/{call_id}/hangup", expect=202)
    assert (call["status"], call["state"], call["termination"]) == ("active", "terminating", None)
    assert call["hangup"]["requestedBy"] == "function key"
    assert call["hangup"]["requestedAt"].endswith("Z")
    assert await app.lines(call_id, "hangup") == [
        ("hangupRequested", {"requestedBy": "function key"}),
        ("hangupAnswered", {"requestedBy": "function key", "outcome": "accepted"}),
    ]
    assert (await app.simulator.control("GET", f"/calls/{call_id}"))["state"] == "terminating"

    await app.notify(about_call(call_id, "deleted", state="terminated", resultInfo={"code": 200, "subcode": 5001}))
    ended: Any = await app.asked("GET", f"calls/{call_id}")
    assert (ended["status"], ended["termination"]["source"]) == ("ended", "notification")
    assert (ended["termination"]["category"], ended["termination"]["subcode"]) == ("byBot", 5001)
    assert ended["hangup"] == call["hangup"]


async def test_hanging_up_again_asks_graph_again_and_keeps_the_first_caller(app: App) -> None:
    call_id = await app.register()
    first: Any = await app.asked("POST", f"calls/{call_id}/hangup", expect=202)
    second: Any = await app.asked("POST", f"calls/{call_id}/hangup", expect=202)
    assert second["hangup"] == first["hangup"]


async def test_hanging_up_a_call_that_is_gone_succeeds_and_the_check_a_minute_later_ends_it(
    app: App, queue: WatchedQueue
) -> None:
    async with app.configured(WithWatchedQueue) as watched:
        call_id = str(uuid4())
        await watched.register(call_id, startedAt=ago(minutes=10))
        call: Any = await watched.asked("POST", f"calls/{call_id}/hangup", expect=202)
        assert (call["state"], call["hangup"]["requestedBy"]) == ("terminating", "function key")

        assert queue.sent[-1] == (Renew(call_id=call_id), 60)
        assert await watched.handle(Renew(call_id=call_id).model_dump_json()) is None
        ended: Any = await watched.asked("GET", f"calls/{call_id}")
        assert (ended["status"], ended["termination"]["source"]) == ("ended", "hangupNotFound")
        assert ended["hangup"] == call["hangup"]


async def test_field_case_12_own_hangup_untold(app: App, queue: WatchedQueue) -> None:
    """A young call, hung up through us; its notifications are lost. A minute later Graph answers 404."""
    async with app.configured(WithWatchedQueue) as watched:
        call_id = await watched.register(await app.simulator.call(app.tenant, quiet=True))
        call: Any = await watched.asked("POST", f"calls/{call_id}/hangup", expect=202)
        assert queue.sent[-1] == (Renew(call_id=call_id), 60)

        await app.simulator.control("POST", "/clock", {"advance": 61})
        watched.clock.ahead += timedelta(seconds=61)
        assert await watched.handle(Renew(call_id=call_id).model_dump_json()) is None
        ended: Any = await watched.asked("GET", f"calls/{call_id}")
        assert (ended["status"], ended["termination"]["category"]) == ("ended", "byBot")
        assert ended["termination"]["reason"] == "Hung up through Call Keeper by function key."
        assert ended["termination"]["source"] == "keepAliveNotFound"
        assert ended["termination"]["endedAt"] == call["hangup"]["requestedAt"]


async def test_a_young_call_that_graph_does_not_find_stays_active(app: App, queue: WatchedQueue) -> None:
    """Nothing was hung up. The call may be too young for Graph to know it, so it must stay active."""
    async with app.configured(WithWatchedQueue) as watched:
        call_id = await watched.register(str(uuid4()))
        await watched.ask("POST", f"calls/{call_id}/hangup", expect=202)
        watched.clock.ahead += timedelta(seconds=61)
        assert await watched.handle(Renew(call_id=call_id).model_dump_json()) is None
        call: Any = await watched.asked("GET", f"calls/{call_id}")
        assert (call["status"], call["lease"]["failing"]["reason"]) == ("active", "notFoundYet")
        assert call["lease"]["failing"]["explanation"]["action"]
        retries = [delay for message, delay in queue.sent if isinstance(message, Renew) and message.retry_at]
        # Graph is asked once more when a 404 counts as the end. Of the grace, 61 seconds have passed, and up to 5 more
        # in this test. The retry is up to half a minute later, by the call's id.
        left = Timing().not_found_grace.total_seconds() - 61
        assert [left - 5 < delay <= left + 30 for delay in retries] == [True]


@pytest.mark.parametrize(
    ("fault", "status", "asked"),
    [pytest.param({"status": 500}, 502, True, id="500"), pytest.param({"status": 403}, 502, False, id="403")],
)
async def test_a_hang_up_with_unknown_outcome_is_checked_after_a_minute(
    app: App, queue: WatchedQueue, fault: dict[str, Any], status: int, asked: bool
) -> None:
    async with app.configured(WithWatchedQueue) as watched:
        call_id = await watched.register()
        queue.sent.clear()
        await watched.simulator.fault(operation="delete", callId=call_id, **fault)
        await watched.ask("POST", f"calls/{call_id}/hangup", expect=status)
        assert ((Renew(call_id=call_id), 60) in queue.sent) is asked


async def test_an_ended_call_is_not_hung_up_at_graph(app: App) -> None:
    call_id = await app.register()
    await app.notify(about_call(call_id, "deleted", state="terminated"))
    await app.simulator.fault(operation="delete", status=500, callId=call_id)
    call = await app.asked("POST", f"calls/{call_id}/hangup", expect=200)
    assert (call["status"], call["hangup"]) == (Status.ENDED, None)


async def test_a_hang_up_succeeds_if_the_queue_refuses_its_wake_up(app: App, queue: WatchedQueue) -> None:
    async with app.configured(WithWatchedQueue) as watched:
        call_id = await watched.register()
        queue.broken = True
        await watched.ask("POST", f"calls/{call_id}/hangup", expect=202)


@pytest.mark.parametrize(
    ("fault", "status", "graph_fields", "outcome"),
    [
        pytest.param(
            {"status": 403, "subcode": 7505}, 502, {"graphStatus": 403, "graphSubcode": 7505}, "refused", id="403"
        ),
        pytest.param(
            {"status": 400, "subcode": 8501}, 502, {"graphStatus": 400, "graphSubcode": 8501}, "refused", id="400"
        ),
        pytest.param(
            {"status": 409, "subcode": 8519}, 502, {"graphStatus": 409, "graphSubcode": 8519}, "refused", id="409"
        ),
        pytest.param({"status": 500}, 502, {"graphStatus": 500}, "unknown", id="500"),
        pytest.param({"status": 503}, 502, {"graphStatus": 503}, "unknown", id="503"),
        pytest.param({"status": 401}, 502, {"graphStatus": 401}, "refused", id="401"),
        pytest.param({"status": 429, "retryAfter": "2.5"}, 503, {"graphStatus": 429}, "refused", id="429"),
        pytest.param({"dropConnection": True}, 504, {}, "unknown", id="dropped connection"),
    ],
)
async def test_graphs_refusal_is_returned_with_its_codes_and_is_in_the_event_log(
    app: App, fault: dict[str, Any], status: int, graph_fields: dict[str, int], outcome: str
) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation="delete", callId=call_id, **fault)
    answer = await app.ask("POST", f"calls/{call_id}/hangup", expect=status)
    problem = answer.json()
    assert graph_fields.items() <= problem.items()
    assert (problem["status"], answer.headers["content-type"]) == (status, "application/problem+json")
    assert ("graphRequestId" in problem) == (status != 504)
    assert answer.headers.get("retry-after") == ("3" if status == 503 else None)
    assert (await app.asked("GET", f"calls/{call_id}"))["hangup"] is None  # the record says only what Graph took
    answered: dict[str, object] = {"requestedBy": "function key", "outcome": outcome}
    answered |= {"status": graph_fields["graphStatus"]} if graph_fields else {}
    assert await app.lines(call_id, "hangup") == [
        ("hangupRequested", {"requestedBy": "function key"}),
        ("hangupAnswered", answered),
    ]


async def test_a_time_out_is_a_504(app: App) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation="delete", callId=call_id, delaySeconds=60)
    async with app.configured(GRAPH_TIMEOUT="PT0.1S") as hasty:
        problem = await hasty.asked("POST", f"calls/{call_id}/hangup", expect=504)
        assert "no answer within 0.1 s" in str(problem["detail"])
    await app.simulator.control("POST", "/clock", {"advance": 60})


async def test_without_a_token_for_graph_it_is_a_503(app: App) -> None:
    call_id = await app.register()
    await app.simulator.fault(operation="token", status=400, tenantId=app.tenant)
    async with app.configured() as fresh:
        answer = await fresh.ask("POST", f"calls/{call_id}/hangup", expect=503)
        assert answer.headers["retry-after"] == "5"
        assert "No Graph token" in answer.json()["detail"]
        _, (_, answered) = await fresh.lines(call_id, "hangup")
        assert answered["outcome"] == "notSent"
