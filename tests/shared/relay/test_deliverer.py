"""The deliverer in stepped time: order, retries, proofs, claims, and deaths at each step."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from random import Random
from typing import cast

import pytest

from shared.config.relay_targets import RelayTarget
from shared.domain.deliveries import DeliveryStatus
from shared.domain.lifecycle import Registration, registered
from shared.errors import CallKeeperError, StoreConflict, StoreUnavailable
from shared.relay.attempts import LATE_TIMEOUT
from shared.relay.lanes import CLAIM
from shared.relay.schedule import MAX_RETRY_DELAY, REFUSAL_WINDOW
from shared.storage.outbox import MAX_LANE_BATCH, MAX_LANE_BYTES
from shared.storage.rows import shard_of
from shared.storage.store import Change, update
from shared.storage.table import Put
from tests.support.relaying import (
    APP,
    BUDGET,
    GRAPH_BEARER,
    HOUR,
    MINUTE,
    OTHER_TENANT,
    SECOND,
    SYNC_BUDGET,
    TENANT,
    Died,
    Life,
    Reply,
    World,
    item,
    question,
    target,
)

CALL, SECOND_CALL = "call", "second-call"
STATES = ("establishing", "established", "terminated")
BREAKER_FAILURES = 5


def states(world: World) -> list[str]:
    return [state for each in world.bot.received for state in each.states]


def accepted(world: World) -> list[str]:
    return [state for each in world.bot.accepted() for state in each.states]


class TestFirstAttempt:
    async def test_a_healthy_delivery_is_graphs_request_and_costs_one_more_request(self) -> None:
        world, without = World(), World(without_relay=True)
        for each in (world, without):
            await each.notify(item(CALL, "establishing"))  # which also reads the states of destinations
            each.process.table.requests.clear()
            await each.notify(item(CALL))
        assert without.process.table.requests == {"read": 1, "write": 1}  # the call
        assert world.process.table.requests == {"read": 1, "write": 2}
        _, received = world.bot.received
        (_, delivery) = await world.deliveries(CALL)
        assert received.headers == {
            "Content-Type": "application/json",
            "Scenario-Id": "scenario",
            "webhook-id": delivery.id,
            "Authorization": GRAPH_BEARER,
        }
        assert (delivery.status, delivery.body) == (DeliveryStatus.DELIVERED, None)
        assert world.rows("lane") == []
        assert world.queue.messages == []

    async def test_a_repeated_notification_has_an_id_of_its_own(self) -> None:
        world = World()
        for _ in range(2):
            await world.notify(item(CALL))
        first, second = world.bot.received
        assert first.body == second.body
        assert first.headers["webhook-id"] != second.headers["webhook-id"]

    async def test_two_notifications_of_the_same_microsecond_are_both_relayed(self) -> None:
        world = World()
        world.bot.usual = 500
        one, two = item(CALL, "hold", note="1"), item(CALL, "hold", note="2")
        await world.notify(item(CALL))
        moment = world.clock.now()
        await world.notify(one)
        world.clock.time = moment  # `notify` adds the same millisecond again
        await world.notify(two)
        assert len({each.sequence for each in await world.deliveries(CALL)}) == 3

    async def test_a_401_is_repeated_after_a_second_with_the_same_bearer(self) -> None:
        world = World()
        world.bot.replies = [401]
        await world.notify(item(CALL))
        first, second = world.bot.received
        assert second.at - first.at == SECOND
        assert (second.headers, second.body) == (first.headers, first.body)
        assert await world.log(CALL) == [("delivered", [401, 202])]

    async def test_it_is_not_repeated_if_the_bearer_ends_too_soon(self) -> None:
        world = World()
        world.bot.replies, world.bearer_life = [401], 30.5 * SECOND
        await world.notify(item(CALL))
        assert await world.log(CALL) == [("pending", [401])]

    @pytest.mark.parametrize("life", [29.9 * SECOND, -4 * MINUTE], ids=["less than 30 s left", "within the tolerance"])
    async def test_without_30_seconds_left_it_goes_late(self, life: timedelta) -> None:
        world = World()
        world.bearer_life = life
        await world.notify(item(CALL))
        (received,) = world.bot.received
        assert received.headers["Authorization"] == "Bearer our-own-token"
        assert world.issuer.asked == [(TENANT, APP, APP)]

    async def test_it_takes_no_longer_than_the_budget(self) -> None:
        world = World()
        world.bot.takes = HOUR
        await world.notify(item(CALL))
        (delivery,) = await world.deliveries(CALL)
        assert [(each.error, each.latency) for each in delivery.attempts] == [("timeout", BUDGET)]

    async def test_none_is_made_while_a_predecessor_is_pending(self) -> None:
        world = World()
        world.bot.replies = [500]
        for state in STATES:
            await world.notify(item(CALL, state))
        assert states(world) == ["establishing"]

    @pytest.mark.parametrize(
        ("reply", "expected"),
        [((429, {"Retry-After": "120"}), 429), ((503, {"retry-after": "120"}), 503)],
        ids=["429", "503"],
    )
    async def test_none_is_made_while_a_retry_after_runs(self, reply: Reply, expected: int) -> None:
        world = World()
        world.bot.replies = [reply]
        await world.notify(item(CALL))
        await world.notify(item(SECOND_CALL))
        assert len(world.bot.received) == 1
        await world.process.pass_time(119 * SECOND)
        assert len(world.bot.received) == 1
        await world.process.pass_time(5 * SECOND)
        assert await world.log(CALL) == [("delivered", [expected, 202])]
        assert await world.log(SECOND_CALL) == [("delivered", [202])]

    async def test_a_body_that_no_row_holds_is_dead_after_its_first_attempt(self) -> None:
        world = World()
        world.bot.replies = [500]
        large = Random(1).randbytes(1_000_000).hex()  # hex digits pack to half their size; a row holds 917,504
        await world.notify(item(CALL, note=large))
        assert await world.log(CALL) == [("dead", [500, "bodyTooLarge"])]
        await world.notify(item(SECOND_CALL, note=large))
        assert await world.log(SECOND_CALL) == [("delivered", [202])]
        assert world.rows("lane") == []


class TestOrder:
    async def test_what_was_missed_follows_in_order_within_a_second(self) -> None:
        world = World()
        world.bot.replies = [500]
        for state in STATES:
            await world.notify(item(CALL, state))
        await world.process.pass_time(6 * SECOND)
        assert accepted(world) == list(STATES)
        times = [each.at for each in world.bot.accepted()]
        assert times[-1] - times[0] <= SECOND

    async def test_the_next_one_waits_until_the_one_before_is_dead(self) -> None:
        world = World()
        world.bot.replies = [400, 500, 404, 403, 400]  # refused four times, with a failure between
        for state in STATES[:2]:
            await world.notify(item(CALL, state))
        await world.process.pass_time(3 * MINUTE)
        assert await world.log(CALL) == [("dead", [400, 500, 404, 403, 400]), ("delivered", [202])]

    async def test_a_notification_that_joins_during_the_last_attempt_is_not_forgotten(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL, "establishing"))
        await world.notify(item(CALL, "established"))

        async def another() -> None:
            await world.start_process().notify(item(CALL, "terminated"))

        world.clock.time += 5 * SECOND
        world.bot.at_request = another  # while the worker has read two deliveries, and attempts the first
        await world.process.run_queue()
        assert accepted(world) == list(STATES)
        assert world.rows("lane") == []

    async def test_a_notification_that_joins_during_a_first_attempt_follows(self) -> None:
        world = World()

        async def another() -> None:
            await world.start_process().notify(item(CALL, "terminated"))

        world.bot.at_request = another
        await world.notify(item(CALL))
        assert accepted(world) == ["established", "terminated"]
        assert world.rows("lane") == []

    async def test_more_than_a_batch_keep_their_order(self) -> None:
        world = World()
        world.bot.replies = [500]
        number = 2 * MAX_LANE_BATCH + 1
        for index in range(number):
            await world.notify(item(CALL, f"state-{index}"))
        await world.process.look()
        assert accepted(world) == [f"state-{index}" for index in range(number)]
        assert world.rows("lane") == []

    async def test_calls_do_not_wait_for_each_other(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL))
        await world.notify(item(SECOND_CALL, "hold"))
        assert accepted(world) == ["hold"]

    async def test_two_workers_do_not_attempt_the_same(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL))

        async def second_worker() -> None:
            await world.start_process().deliverer.look()

        world.bot.at_request = second_worker
        await world.process.look()
        assert states(world) == ["established"] * 2  # the first attempt, and one retry


class TestRetries:
    async def test_waits_double_up_to_15_minutes_for_24_hours(self) -> None:
        world = World()
        world.bot.usual = "refused"
        await world.notify(item(CALL))
        began, times = world.clock.now(), [world.clock.now()]
        while (await world.log(CALL))[0][0] == "pending":
            (due, *_), *_ = world.queue.messages
            world.clock.time = max(due, world.clock.time)
            await world.process.run_queue()
            (delivery,) = await world.deliveries(CALL)
            if delivery.attempts[-1].at > times[-1] and delivery.attempts[-1].error == "refused":
                times.append(delivery.attempts[-1].at)
        waits = [later - earlier for earlier, later in pairwise(times)]
        assert waits[0] <= 5 * SECOND
        # Behind the open breaker a wait may be longer by its pause of 5 minutes at most.
        assert max(waits) <= MAX_RETRY_DELAY + 5 * MINUTE
        assert 24 * HOUR <= world.clock.now() - began <= 24 * HOUR + MAX_RETRY_DELAY + 5 * MINUTE
        assert (await world.log(CALL))[0][1][-1] == "expired"

    @pytest.mark.parametrize("status", [301, 400, 404, 422], ids=str)
    async def test_a_refused_delivery_is_dead_after_three_to_five_attempts_within_two_minutes(
        self, status: int
    ) -> None:
        world = World()
        world.bot.usual, world.bot.takes = status, timedelta(seconds=1)
        await world.notify(item(CALL))
        world.bot.takes = LATE_TIMEOUT  # the bot takes all the time there is
        await world.process.pass_time(5 * MINUTE)
        ((dead, attempts),) = await world.log(CALL)
        assert (dead, attempts) == ("dead", [status] * 4)
        times = [each.at for each in world.bot.received]
        assert times[-1] - times[0] <= REFUSAL_WINDOW

    async def test_the_repetition_after_a_401_counts_among_them(self) -> None:
        world = World()
        world.bot.usual = 401
        await world.notify(item(CALL))
        world.bot.takes = LATE_TIMEOUT
        await world.process.pass_time(5 * MINUTE)
        assert await world.log(CALL) == [("dead", [401] * 5)]
        times = [each.at for each in world.bot.received]
        assert times[-1] - times[0] <= REFUSAL_WINDOW

    async def test_a_410_switches_the_destination_off(self) -> None:
        world = World()
        world.bot.replies = [500, 500, 410]
        await world.notify(item(CALL))
        await world.notify(item(SECOND_CALL))
        await world.notify(item(SECOND_CALL, "hold"))
        await world.process.look()
        await world.process.run_queue()
        await world.notify(item("third-call"))
        found = [each for call_id in (CALL, SECOND_CALL, "third-call") for each in await world.deliveries(call_id)]
        assert {each.status for each in found} == {DeliveryStatus.DISABLED}
        assert all(each.body for each in found)
        assert [each.status for each in world.bot.received].count(410) == 1
        assert world.rows("lane") == []
        assert world.rows("pending|") == []

    async def test_after_it_is_enabled_what_comes_is_delivered(self) -> None:
        world = World()
        world.bot.replies = [410]
        await world.notify(item(CALL))
        await world.process.destinations.enable("bot")
        await world.notify(item(CALL, "terminated"))
        assert [status for status, _ in await world.log(CALL)] == ["disabled", "delivered"]

    async def test_a_look_while_it_is_being_enabled_holds_none_of_its_deliveries_again(self) -> None:
        world = World()
        world.bot.replies = [410]
        for state in ("established", "hold", "terminated"):
            await world.notify(item(CALL, state))
        await world.process.run_queue()
        world.clock.time += MINUTE
        deliverer = world.process.deliverer
        assert await deliverer.reopening.reopen_held("bot", only_enabled=False) == 3
        await deliverer.look("bot")  # of a worker that comes between
        assert [status for status, _ in await world.log(CALL)] == 3 * ["pending"]
        await deliverer.destinations.enable("bot")
        await deliverer.look("bot")
        assert [status for status, _ in await world.log(CALL)] == 3 * ["delivered"]

    async def test_a_replay_is_attempted_at_a_destination_that_is_off(self) -> None:
        world = World()
        world.bot.replies = [410]
        await world.notify(item(CALL))
        stored = await world.process.outbox.get(CALL, (await world.deliveries(CALL))[0].sequence)
        assert stored
        now = world.clock.now() + MINUTE
        again = replace(
            stored.value, status=DeliveryStatus.PENDING, is_replay=True, retry_since=now, next_attempt_at=now
        )
        await world.process.outbox.reopen(stored, again, now)
        await world.process.look(2 * MINUTE)
        assert await world.log(CALL) == [("delivered", [410, 202])]
        await world.notify(item(CALL, "terminated"))
        assert [status for status, _ in await world.log(CALL)] == ["delivered", "disabled"]

    async def test_a_replay_begins_the_schedule_anew(self) -> None:
        world = World()
        world.bot.usual = 400
        await world.notify(item(CALL))
        await world.process.pass_time(3 * MINUTE)
        stored = await world.process.outbox.get(CALL, (await world.deliveries(CALL))[0].sequence)
        assert stored
        assert stored.value.status is DeliveryStatus.DEAD
        now = world.clock.now()
        again = replace(stored.value, status=DeliveryStatus.PENDING, retry_since=now, next_attempt_at=now)
        await world.process.outbox.reopen(stored, again, now)
        world.bot.usual = 500
        await world.process.look(2 * MINUTE)
        (delivery,) = await world.deliveries(CALL)
        assert delivery.next_attempt_at
        assert delivery.next_attempt_at - world.clock.now() <= 5 * SECOND

    async def test_the_breaker_lets_one_probe_through_and_slows_no_other_destination(self) -> None:
        world = World(target(url="https://bot.example/{to}"))
        world.bot.usual = "refused"
        for number in range(BREAKER_FAILURES + 3):
            await world.notify(item(f"call-{number}"), to=("one",))
        failed = [await world.log(f"call-{number}") for number in range(BREAKER_FAILURES + 3)]
        assert failed == [[("pending", ["refused"])]] * BREAKER_FAILURES + [[("pending", [])]] * 3
        world.bot.usual = 202
        await world.notify(item("other"), to=("two",))
        assert await world.log("other") == [("delivered", [202])]
        world.bot.received.clear()
        await world.process.pass_time(2 * MINUTE)
        left = [await world.log(f"call-{number}") for number in range(BREAKER_FAILURES + 3)]
        assert {status for ((status, _),) in left} == {"delivered"}

    async def test_a_message_behind_an_open_breaker_costs_one_read_and_one_message(self) -> None:
        world = World(target())
        world.bot.usual = "refused"
        for number in range(BREAKER_FAILURES):
            await world.notify(item(f"call-{number}"))
        lane = (await world.deliveries("call-0"))[0].lane
        waiting = await world.process.outbox.get_lane(lane)
        assert waiting
        world.process.table.requests.clear()
        world.clock.time += 10 * SECOND  # the attempt is due, but the first probe only after 30 s
        await world.process.deliverer.work(lane, waiting.value.next_attempt_at)
        assert dict(world.process.table.requests) == {"read": 1}
        assert await world.process.outbox.get_lane(lane) == waiting
        await world.process.pass_time(30 * SECOND)
        (_, errors), *_ = await world.log("call-0")
        assert len(errors) > 1

    async def test_a_delivery_of_a_target_that_is_gone_is_dead_after_24_hours(self) -> None:
        world = World()
        world.bot.usual = 500
        await world.notify(item(CALL))
        world.targets = (target("another"),)
        process = world.start_process()
        await process.look(12 * HOUR)
        assert await world.log(CALL) == [("pending", [500])]
        await process.look(12 * HOUR)
        assert await world.log(CALL) == [("dead", [500, "noTarget"])]

    async def test_a_target_that_now_wants_a_to_makes_the_delivery_dead(self) -> None:
        world = World()
        world.bot.usual = 500
        await world.notify(item(CALL))
        world.targets = (target(url="https://bot.example/{to}"),)
        await world.start_process().look()
        assert await world.log(CALL) == [("dead", [500, "noTo"])]


class TestProofs:
    async def test_a_late_delivery_has_the_same_bytes_and_headers_but_our_token(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL))
        await world.process.look()
        first, late = world.bot.received
        assert late.body == first.body
        assert {name: late.headers[name] for name in ("Content-Type", "Scenario-Id", "webhook-id")} == {
            name: first.headers[name] for name in ("Content-Type", "Scenario-Id", "webhook-id")
        }
        assert late.headers["Authorization"] == "Bearer our-own-token"
        assert "webhook-timestamp" in late.headers
        assert "webhook-timestamp" not in first.headers

    async def test_without_a_token_the_delivery_waits_and_says_why(self) -> None:
        world = World()
        world.bot.replies, world.issuer.error = [500], "the app registration requires assignment"
        await world.notify(item(CALL))
        await world.process.look()
        reason = "noToken: the app registration requires assignment"
        assert await world.log(CALL) == [("pending", [500, reason])]
        world.issuer.error = None
        await world.process.look()
        assert await world.log(CALL) == [("delivered", [500, reason, 202])]

    async def test_a_missing_token_does_not_open_the_breaker(self) -> None:
        world = World()
        world.issuer.error = "there is none"
        world.bearer_life = timedelta()
        for number in range(BREAKER_FAILURES + 1):
            await world.notify(item(f"call-{number}"))
        assert world.rows("destination") == []

    async def test_the_bearer_of_graph_is_nowhere_but_in_the_first_attempt(self) -> None:
        world = World()
        world.bot.usual = 500
        await world.notify(item(CALL))
        await world.process.look()
        assert [each.is_late for each in world.bot.received] == [False, True]
        assert "the-bearer-of-graph" not in repr(world.rows()) + repr(world.queue.messages)


class TestQuestions:
    async def test_the_answer_of_the_bot_is_graphs_response(self) -> None:
        world = World()
        world.bot.replies = [(200, {"Content-Type": "application/json", "Set-Cookie": "a=b"}, b'{"join":true}')]
        response = (await world.notify(question(CALL))).response
        assert (response.status, response.body) == (200, b'{"join":true}')
        assert response.headers == {"Content-Type": "application/json"}
        assert await world.log(CALL) == [("delivered", [200])]

    async def test_it_is_attempted_once_also_after_a_401(self) -> None:
        world = World()
        world.bot.replies = [401]
        assert (await world.notify(question(CALL))).response.status == 401
        assert await world.log(CALL) == [("delivered", [401])]
        assert len(world.bot.received) == 1

    async def test_without_an_answer_it_is_dead_and_graph_gets_202(self) -> None:
        world = World()
        world.bot.takes = HOUR
        assert (await world.notify(question(CALL))).response.status is None
        (delivery,) = await world.deliveries(CALL)
        assert delivery.status is DeliveryStatus.DEAD
        assert delivery.attempts[0].latency == SYNC_BUDGET
        assert delivery.body is None
        await world.process.look()
        assert world.rows("lane") == []

    async def test_it_waits_for_nothing_and_nothing_waits_for_it(self) -> None:
        world = World()
        world.bot.replies = [500, 200, "timeout", 200]
        await world.notify(item(CALL))
        await world.notify(question(CALL))
        await world.notify(question(CALL))
        assert await world.log(CALL) == [("pending", [500]), ("delivered", [200]), ("dead", ["timeout"])]
        await world.process.look()
        assert (await world.log(CALL))[0] == ("delivered", [500, 200])

    async def test_a_410_answers_it_and_switches_the_destination_off(self) -> None:
        world = World()
        world.bot.replies = [410]
        await world.notify(question(CALL))
        await world.notify(question(CALL))
        assert await world.log(CALL) == [("delivered", [410]), ("dead", ["disabled"])]
        assert len(world.bot.received) == 1

    async def test_the_whole_body_is_sent_and_the_others_are_retried_alone(self) -> None:
        world = World()
        world.bot.replies = [(503, {}, b"no")]
        result = await world.notify(item(CALL, "hold"), question(CALL), question(SECOND_CALL), item(SECOND_CALL))
        assert (result.response.status, len(world.bot.received)) == (503, 1)
        assert len(json.loads(world.bot.received[0].body)["value"]) == 4
        assert await world.log(CALL) == [("delivered", [503]), ("pending", [503])]
        assert await world.log(SECOND_CALL) == [("delivered", [503]), ("pending", [503])]
        await world.process.look()
        assert world.bot.received[1].states == ["hold", "established"]
        await world.process.run_queue()
        assert world.rows("lane") == []

    async def test_without_a_to_it_is_dead(self) -> None:
        world = World(target(url="https://bot.example/{to}"))
        result = await world.notify(question(CALL), item(CALL))
        assert result.response.status is None
        assert await world.log(CALL) == [("dead", ["noTo"])] * 2
        assert world.bot.received == []


class TestSeveralCalls:
    async def test_a_body_goes_unchanged_and_is_listed_for_each_call(self) -> None:
        world = World()
        await world.notify(item(CALL), item(SECOND_CALL))
        (received,) = world.bot.received
        assert len(json.loads(received.body)["value"]) == 2
        for call_id in (CALL, SECOND_CALL):
            (delivery,) = await world.deliveries(call_id)
            assert delivery.call_ids == (CALL, SECOND_CALL)
        assert world.rows("lane") == []

    async def test_no_call_overtakes_it(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL, "1"), item(SECOND_CALL, "1"))
        await world.notify(item(CALL, "2"))
        await world.notify(item(SECOND_CALL, "2"))
        assert accepted(world) == []
        await world.process.pass_time(10 * SECOND)
        assert accepted(world) == ["1", "1", "2", "2"]
        times = [each.at for each in world.bot.accepted()]
        assert times[-1] - times[0] <= SECOND
        assert world.rows("lane") == []

    async def test_it_waits_for_the_predecessor_of_each_call(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(SECOND_CALL, "1"))
        await world.notify(item(CALL, "2"), item(SECOND_CALL, "2"))
        assert accepted(world) == []
        await world.process.pass_time(10 * SECOND)
        assert accepted(world) == ["1", "2", "2"]
        assert world.rows("lane") == []

    async def test_the_lane_of_another_call_goes_on_right_after_it(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL, "1"))
        await world.notify(item(CALL, "2"), item(SECOND_CALL, "2"))
        await world.notify(item(SECOND_CALL, "3"))
        await world.process.pass_time(10 * SECOND)
        assert accepted(world) == ["1", "2", "2", "3"]
        times = [each.at for each in world.bot.accepted()]
        assert times[-1] - times[0] <= SECOND

    async def test_bodies_about_the_same_calls_in_other_orders_do_not_lock_each_other(self) -> None:
        world = World()
        world.bot.replies = [500, 500, 500]
        for first, second in ((CALL, SECOND_CALL), (SECOND_CALL, CALL), (CALL, SECOND_CALL)):
            moment = world.clock.now()
            await world.notify(item(first, first), item(second, second))
            world.clock.time = moment  # all in the same microsecond
        await world.process.pass_time(3 * MINUTE)
        assert accepted(world) == [CALL, SECOND_CALL, SECOND_CALL, CALL, CALL, SECOND_CALL]
        assert world.rows("lane") == []
        assert world.rows("pending|") == []

    async def test_waiting_for_another_call_does_not_poll_each_second(self) -> None:
        world = World()
        world.bot.usual = 500
        await world.notify(item(SECOND_CALL, "1"))
        await world.notify(item(CALL, "2"), item(SECOND_CALL, "2"))
        await world.process.pass_time(HOUR)
        world.process.table.requests.clear()
        await world.process.pass_time(HOUR)
        # Each attempt of the predecessor, at least 8 minutes apart, costs a look of both lanes with some requests each.
        assert world.process.table.requests.total() <= 60 / 8 * 2 * 20

    async def test_each_call_has_its_part_if_their_destinations_differ(self) -> None:
        world = World(target(url="https://bot.example/{to}"))
        for call_id in (CALL, SECOND_CALL):
            await world.notify(item(call_id), to=("first",))
            await set_to(world, call_id)
        world.bot.received.clear()
        await world.notify(item(CALL, "hold"), item(SECOND_CALL, "resuming"))
        assert {(each.url, *each.states) for each in world.bot.received} == {
            (f"https://bot.example/{CALL}", "hold"),
            (f"https://bot.example/{SECOND_CALL}", "resuming"),
        }

    async def test_only_the_stored_ones_are_sent_if_some_are_refused(self) -> None:
        world = World()
        world.tenant = OTHER_TENANT
        await world.notify(item(SECOND_CALL))
        world.tenant = TENANT
        world.bot.received.clear()
        result = await world.notify(item(CALL), item(SECOND_CALL, "hold"))
        assert (result.calls, result.refused) == (1, 1)
        assert states(world) == ["established"]


async def set_to(world: World, call_id: str) -> None:
    """Store the `to` of a registration: the id of the call."""
    stored = await world.process.store.get(call_id)
    assert stored
    await world.process.store.commit(Change(stored, replace(stored.value, relay_to=call_id)))


class TestStorage:
    @pytest.mark.parametrize("error", [StoreConflict, StoreUnavailable], ids=["repeated by the client", "given up"])
    @pytest.mark.parametrize("number", [0, 1], ids=["the commit", "the result"])
    async def test_a_lost_answer_loses_nothing_and_sends_nothing_twice(
        self, number: int, error: type[CallKeeperError]
    ) -> None:
        world = World()
        await world.notify(item(CALL, "establishing"))
        world.process.table.loses_write = (number, error)
        await world.notify(item(CALL))
        assert accepted(world) == ["establishing", "established"]
        assert [status for status, _ in await world.log(CALL)] == ["delivered"] * 2
        assert world.rows("lane") == []

    async def test_a_result_that_cannot_be_stored_is_no_error_for_graph(self) -> None:
        world = World()

        async def go_away() -> None:
            world.process.table.is_away = True

        world.bot.at_request = go_away
        await world.notify(item(CALL))
        world.process.table.is_away = False
        assert await world.log(CALL) == [("pending", [])]
        await world.process.look(CLAIM + SECOND)
        assert await world.log(CALL) == [("delivered", [202])]

    async def test_without_the_queue_a_look_finds_it(self) -> None:
        world = World()
        world.process.raw_queue.is_broken = True
        world.bot.replies = [500]
        await world.notify(item(CALL))
        await world.process.look(2 * MINUTE)
        assert await world.log(CALL) == [("delivered", [500, 202])]

    async def test_the_next_notification_wakes_what_is_overdue(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL))
        world.queue.messages.clear()
        world.clock.time += 66 * SECOND  # 5 s until the retry, and a minute
        await world.notify(item(CALL, "terminated"))
        await world.process.run_queue()
        assert accepted(world) == ["established", "terminated"]

    async def test_a_look_leaves_what_is_not_overdue(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL))
        await world.process.look(30 * SECOND)
        assert len(world.bot.received) == 1

    async def test_a_damaged_delivery_does_not_stop_its_lane(self) -> None:
        world = World()
        world.bot.replies = [500]
        await world.notify(item(CALL, "establishing"))
        await world.notify(item(CALL))
        row = world.rows(f"delivery|{CALL}")[0]
        cells = {**row.columns, "body": b"no gzip"}
        await world.table.write(shard_of(CALL), [Put(row.key, cells)])
        await world.process.look()
        assert accepted(world) == ["established"]
        assert world.rows("lane") == []


SCENARIO = [  # bodies in their order, and the answers of the bot before it is well
    ((CALL, "1"),),
    ((CALL, "2"), (SECOND_CALL, "2")),
    ((SECOND_CALL, "3"),),
    ((SECOND_CALL, "4"), (CALL, "4")),
    ((CALL, "5"),),
]
ANSWERS: list[Reply] = [202, 503, "timeout", 400]


type Bodies = list[tuple[tuple[str, str], ...]]


async def live(world: World, life: Life, bodies: Bodies, answers: list[Reply]) -> None:
    """Let Graph send all bodies, each until it is accepted, while a process dies."""
    world.bot.replies = list(answers)
    process = world.start_process(life)
    for calls in bodies:
        items = [item(call_id, state, "deleted" if state == "terminated" else "updated") for call_id, state in calls]
        while True:
            try:
                await process.notify(*items)
                await process.run_queue()
            except (Died, StoreUnavailable):
                process = world.start_process()
                continue
            break
        world.clock.time += 3 * SECOND
    for _ in range(12):
        if not world.rows("lane"):
            break
        try:
            await process.run_queue()
            await process.look(CLAIM + MINUTE)
        except Died:
            process = world.start_process()


async def deaths(bodies: Bodies, answers: list[Reply], *targets: RelayTarget) -> AsyncIterator[tuple[World, str]]:
    """Yield the world after each possible death of the first process, and when that was."""
    whole = Life()
    await live(World(*targets), whole, bodies, answers)
    assert whole.steps >= len(bodies) * 4  # each is read, written, and attempted, and its result is written
    for step in range(1, whole.steps + 1):
        for afterwards in (False, True):
            world = World(*targets)
            await live(world, Life(step, afterwards), bodies, answers)
            where = f"died {'after' if afterwards else 'before'} step {step} of {whole.steps}"
            assert world.rows("lane") == [], where
            assert world.rows("pending|") == [], where
            yield world, where


def arrived(world: World, call_id: str) -> list[str]:
    """The states of a call that the bot accepted, each when it came first."""
    notifications = [each for each in world.bot.accepted() if each.url.startswith("https://bot.")]
    items = [each for received in notifications for each in json.loads(received.body)["value"]]
    found = [each["resourceData"]["state"] for each in items if each["resourceUrl"].endswith(f"/{call_id}")]
    return list(dict.fromkeys(found))


async def test_a_death_at_any_step_loses_nothing_and_keeps_the_order() -> None:
    async for world, where in deaths(SCENARIO, ANSWERS):
        for call_id in (CALL, SECOND_CALL):
            wanted = [state for calls in SCENARIO for each, state in calls if each == call_id]
            assert arrived(world, call_id) == wanted, where


@pytest.mark.parametrize(
    "answers",
    [[], [503, 503], ["timeout"] * 7, [(503, {"Retry-After": "30"})] * 2],
    ids=["all is well", "two failures", "the breaker opens", "the bot asks for a pause"],
)
async def test_a_death_at_any_step_loses_no_event(answers: list[Reply]) -> None:
    bodies: Bodies = [((CALL, "established"),), ((CALL, "hold"),), ((CALL, "terminated"),)]
    events = target("events", format="events", appId=None)
    async for world, where in deaths(bodies, answers, target(), events):
        assert arrived(world, CALL) == ["established", "hold", "terminated"], where
        sent = [each for each in world.bot.accepted() if each.url.startswith("https://events.")]
        types = [json.loads(each.body)["type"] for each in sent]
        assert list(dict.fromkeys(types)) == ["call.established", "call.ended"], where
        assert all(each.is_late for each in sent)


async def test_large_bodies_that_are_read_in_parts_are_all_delivered_in_order() -> None:
    world = World()
    world.bot.usual = 503
    states = [f"state{number}" for number in range(5)]
    for state in states:
        await world.notify(item("call", state, padding="x" * (MAX_LANE_BYTES // 2)))
    world.bot.usual = 202
    world.bot.received.clear()
    await world.process.look()
    assert [received.states for received in world.bot.received] == [[state] for state in states]
    assert world.rows("lane") == []


async def test_a_call_is_not_purged_while_a_delivery_is_pending() -> None:
    """ENDED_CALL_RETENTION may be shorter than the 24 hours of a delivery."""
    world = World()
    world.bot.usual = 503
    await world.notify(item("call", "terminated", "deleted"))
    world.clock.time += HOUR
    store, shard = world.process.store, shard_of("call")
    assert await store.purge(shard, world.clock.now(), 10) == 0
    world.bot.usual = 202
    await world.process.look()
    assert await world.log("call") == [("delivered", [503, 202])]
    assert await store.purge(shard, world.clock.now(), 10) == 1
    assert world.rows() == []


async def test_a_tombstone_that_becomes_active_keeps_the_order_of_its_deliveries() -> None:
    """Another tenant's token reported the end. Its delivery is on record, and the purge has to find it."""
    world = World()
    world.tenant = OTHER_TENANT
    await world.notify(item("call", "terminated", "deleted"))
    ((first,), world.tenant) = await world.deliveries("call"), TENANT
    await update(
        world.process.store,
        "call",
        lambda call: (registered(call, Registration("call", TENANT), world.clock.now()), ()),
    )
    world.clock.time -= 2 * MINUTE  # of another instance
    await world.notify(item("call"))
    assert [each.sequence > first.sequence for each in await world.deliveries("call")] == [False, True]


async def test_a_look_of_a_sweep_ends_with_the_sweep() -> None:
    """The host ends a sweep after five minutes, and with it all that its process does."""
    world = World()
    world.bot.usual = 500
    for number in range(3):
        await world.notify(item(f"call{number}"))
    world.bot.usual = 202
    world.bot.received.clear()
    world.clock.time += 20 * MINUTE
    world.bot.takes = LATE_TIMEOUT - SECOND
    await world.process.deliverer.look(until=world.clock.now() + LATE_TIMEOUT)
    assert len(world.bot.received) == 2  # the second one begins after 14 s, a third one would after 28 s


async def test_an_error_in_one_lane_stops_no_other() -> None:
    world = World()
    world.bot.usual = 500
    for call_id in ("first", "second"):
        await world.notify(item(call_id))
    world.bot.usual, world.bot.replies = 202, [cast("int", ())]  # a bug: no answer has no status

    async def then_wait() -> None:
        world.bot.at_request = partial(asyncio.sleep, 0.01)

    world.bot.at_request = then_wait
    with pytest.raises(ValueError, match="unpack"):
        await world.process.look()
    assert sorted([await world.log("first"), await world.log("second")]) == [
        [("delivered", [500, 202])],
        [("pending", [500])],
    ]
